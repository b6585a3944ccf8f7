"""The link between a server and an agent process: order, write-ahead, cancellation, and the end of either side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.agents.process.test_messages import SEGMENT
from tests.support.framed import FramedHost
from tests.support.toolless import Toolless
from unpause.agents.driver import (
    AgentProcessDied,
    CallResult,
    Completed,
    Failed,
    Journal,
    NewMessage,
    OwnDecision,
    ProposedCall,
    RequirementRequest,
    Segment,
    SegmentEnd,
)
from unpause.agents.process.journal import CREDIT
from unpause.domain.events import EventType
from unpause.domain.requirements import Decision
from unpause.domain.runs import EndReason, Outcome
from unpause.errors import InvalidInput, LeaseLost

Script = Callable[[Segment, Journal], Awaitable[SegmentEnd]]

DONE = Completed("done")
SUCCESS = CallResult(Outcome.SUCCESS, 1, "1")


class Driver(Toolless):
    """Runs what a test says."""

    agent_id = agent_name = "a"
    model_name = "m"
    model_provider = "p"

    def __init__(self, script: Script) -> None:
        self._script = script

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        return await self._script(segment, journal)


class Memory:
    """A journal that remembers; ``write`` is awaited where the real one commits."""

    def __init__(self, write: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.stop_requested = False
        self.sent: list[Any] = []
        self.meter: Callable[[], Mapping[str, int]] = dict
        self.notify: Callable[[], None] = lambda: None
        self._write = write
        self.granted = False

    def on_stop(self, notify: Callable[[], None]) -> None:
        self.notify = notify

    def request_release(self) -> None:
        self.stop_requested = True
        self.notify()

    def measure(self, meter: Callable[[], Mapping[str, int]]) -> None:
        self.meter = meter

    async def emit(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        self.sent.append((event_type, payload))

    def record_turn(self, messages: Any, calls: Any) -> None:  # noqa: ANN401 - kept as it comes
        self.sent.append(("turn", messages, calls))

    def propose_output(self, call: ProposedCall) -> None:
        self.sent.append(("output", call))

    def show_call(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        self.sent.append(("show", call_id, arguments, sent))

    def record_own_decision(self, call_id: str, own: OwnDecision) -> None:
        self.sent.append(("own", call_id, own))

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        await self._commit(("start", call_id, idempotent))

    async def find_grant(self, request: RequirementRequest) -> bool:
        await self._commit(("find grant", request))
        return self.granted

    async def start_granted_call(self, request: RequirementRequest, *, idempotent: bool) -> bool:
        await self._commit(("start granted", request, idempotent))
        return self.granted

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        await self._commit(("finish", call_id, result))

    def finish_call_soon(self, call_id: str, result: CallResult) -> None:
        self.sent.append(("finish", call_id, result))

    async def flush(self) -> None:
        if self._write is not None:
            await self._write("flush")

    def settle_call(self, call_id: str, result: CallResult) -> None:
        if call_id == "unknown":
            raise KeyError(call_id)
        self.sent.append(("settle", call_id, result))

    async def defer_call(self, call_id: str) -> None:
        await self._commit(("defer", call_id))

    async def _commit(self, what: tuple[Any, ...]) -> None:
        if self._write is not None:
            await self._write(what[0])
        self.sent.append(what)


async def until(condition: Callable[[], bool]) -> None:
    """Give others their turn until it is so."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError


@asynccontextmanager
async def hosted(script: Script) -> AsyncIterator[FramedHost]:
    host = FramedHost([Driver(script)])
    async with host.running():
        yield host


async def run(script: Script, journal: Memory) -> SegmentEnd:
    async with hosted(script) as host:
        return await host.run_segment("a", SEGMENT, journal)


async def test_what_a_driver_says_arrives_in_its_order_with_what_it_has_used() -> None:
    call, used = ProposedCall("c", "t", {}), {"requests": 0}

    async def script(segment: Segment, journal: Journal) -> SegmentEnd:
        assert segment == SEGMENT
        journal.measure(lambda: used)
        await journal.emit(EventType.CONTENT_DELTA, {"content": "a"})
        used["requests"] = 3
        journal.record_turn([NewMessage({}, ())], [call])
        journal.propose_output(call)
        journal.show_call("c", {"n": 1}, {"n": "1"})
        journal.record_own_decision("c", OwnDecision(Decision.CONFIRMED))
        await journal.start_call("c", idempotent=True)
        await journal.emit(EventType.CONTENT_DELTA)
        await journal.finish_call("c", SUCCESS)
        journal.settle_call("d", SUCCESS)
        await journal.defer_call("e")
        return DONE

    journal = Memory()
    assert await run(script, journal) == DONE
    assert [entry[0] for entry in journal.sent] == [
        EventType.CONTENT_DELTA, "turn", "output", "show", "own", "start", EventType.CONTENT_DELTA, "finish", "settle",
        "defer",
    ]  # fmt: skip
    assert journal.sent[5] == ("start", "c", True)
    assert journal.sent[7] == ("finish", "c", SUCCESS)
    assert journal.meter() == {"requests": 3}


async def test_a_tool_does_not_start_before_its_start_is_written() -> None:
    may_write, began = asyncio.Event(), asyncio.Event()

    async def write(_: str) -> None:
        await may_write.wait()

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        await journal.start_call("c", idempotent=False)
        began.set()
        return DONE

    journal = Memory(write)
    async with hosted(script) as host:
        running = asyncio.create_task(host.run_segment("a", SEGMENT, journal))
        for _ in range(50):
            await asyncio.sleep(0)
        assert not began.is_set()
        may_write.set()
        assert await running == DONE


async def test_a_call_that_has_finished_is_written_before_a_flush_returns_and_until_then_the_agent_goes_on() -> None:
    may_write, went_on, flushed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def write(what: str) -> None:
        if what == "flush":
            await may_write.wait()

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        await journal.start_call("c", idempotent=False)
        journal.finish_call_soon("c", SUCCESS)
        went_on.set()
        await journal.flush()
        flushed.set()
        await journal.flush()
        return DONE

    journal = Memory(write)
    async with hosted(script) as host:
        running = asyncio.create_task(host.run_segment("a", SEGMENT, journal))
        await went_on.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert [entry[0] for entry in journal.sent] == ["start", "finish"]
        assert not flushed.is_set()
        may_write.set()
        assert await running == DONE


async def test_a_lost_lease_ends_the_segment_on_both_sides() -> None:
    was_cancelled = asyncio.Event()

    async def write(_: str) -> None:
        raise LeaseLost("lost")

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        try:
            await journal.start_call("c", idempotent=False)
        except asyncio.CancelledError:
            was_cancelled.set()
            raise
        raise AssertionError

    async with hosted(script) as host:
        with pytest.raises(LeaseLost):
            await host.run_segment("a", SEGMENT, Memory(write))
        await asyncio.wait_for(was_cancelled.wait(), 10)


async def test_a_cancellation_is_passed_on_and_not_waited_for() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def script(_: Segment, __: Journal) -> SegmentEnd:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await may_end.wait()
        return DONE

    async with hosted(script) as host:
        assert host.link is not None
        running = asyncio.create_task(host.run_segment("a", SEGMENT, Memory()))
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (host.link.busy, len(host.link.cancelled)) == (1, 1)
        may_end.set()
        link = host.link
        await until(lambda: link.busy == 0)


async def test_a_wish_to_stop_reaches_the_driver_wherever_it_comes_from() -> None:
    seen = asyncio.Event()

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        seen.set()
        await until(lambda: journal.stop_requested)
        return DONE

    journal = Memory()
    async with hosted(script) as host:
        running = asyncio.create_task(host.run_segment("a", SEGMENT, journal))
        await seen.wait()
        assert host.link is not None
        host.link.request_release()
        assert await running == DONE
        assert journal.stop_requested


async def test_one_segments_flood_waits_for_the_server() -> None:
    sent = 0

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        nonlocal sent
        for _number in range(3 * CREDIT):
            await journal.emit(EventType.CONTENT_DELTA, {"content": "x"})
            sent += 1
        return DONE

    journal = Memory()
    assert await run(script, journal) == DONE
    assert len(journal.sent) == sent == 3 * CREDIT


async def test_a_name_that_is_too_long_is_refused_where_the_call_is_made() -> None:
    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        journal.record_turn([], [ProposedCall("x" * 256, "t", {})])
        raise AssertionError

    journal = Memory()
    with pytest.raises(InvalidInput, match="256 characters"):
        await run(script, journal)
    assert journal.sent == []


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_whatever_a_driver_raises_ends_its_segment_and_nothing_else(error: BaseException) -> None:
    async def script(_: Segment, __: Journal) -> SegmentEnd:
        raise error

    async with hosted(script) as host:
        for _ in range(2):
            end = await host.run_segment("a", SEGMENT, Memory())
            assert end == Failed(EndReason.AGENT_ERROR, f"The agent failed: {type(error).__name__}")


async def test_a_segment_that_an_author_cancels_fails_and_no_other() -> None:
    async def script(_: Segment, __: Journal) -> SegmentEnd:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)
        raise AssertionError

    async with hosted(script) as host:
        for _ in range(2):
            end = await host.run_segment("a", SEGMENT, Memory())
            assert end == Failed(EndReason.AGENT_ERROR, "The agent failed: CancelledError")


async def test_the_end_of_the_link_ends_what_runs_there() -> None:
    began = asyncio.Event()

    async def script(_: Segment, __: Journal) -> SegmentEnd:
        began.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with hosted(script) as host:
        assert host.link is not None
        running = asyncio.create_task(host.run_segment("a", SEGMENT, Memory()))
        await began.wait()
        host.link.end("signal SIGKILL")
        with pytest.raises(AgentProcessDied, match="SIGKILL"):
            await running
        with pytest.raises(AgentProcessDied):
            await host.run_segment("a", SEGMENT, Memory())


async def test_a_server_that_is_behind_does_not_take_the_process_for_silent() -> None:
    may_go_on, is_waiting = asyncio.Event(), asyncio.Event()

    class Slow(Memory):
        async def emit(self, *_: Any) -> None:  # noqa: ANN401 - as the protocol has it
            is_waiting.set()
            await may_go_on.wait()

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        await journal.emit(EventType.CONTENT_DELTA)
        return DONE

    async with hosted(script) as host:
        assert host.link is not None
        running = asyncio.create_task(host.run_segment("a", SEGMENT, Slow()))
        await is_waiting.wait()
        before = host.link.last_message_at
        await asyncio.sleep(0.001)
        assert host.link.last_message_at > before
        may_go_on.set()
        assert await running == DONE
