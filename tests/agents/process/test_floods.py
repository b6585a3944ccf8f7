"""A process that sends what it must not, or more than it may: only that process is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from tests.agents.process.test_link import DONE, SUCCESS, Driver, Memory, hosted
from tests.agents.process.test_messages import SEGMENT
from tests.support.framed import FramedHost
from unpause.agents.driver import Completed, Failed, Journal, NewMessage, Segment, SegmentEnd
from unpause.agents.process.frames import FrameLimit, ProtocolViolation
from unpause.agents.process.journal import CREDIT
from unpause.agents.process.messages import Checked, Emit, Ended, Heartbeat, SettleCall, encode
from unpause.domain.events import EventType
from unpause.errors import InvalidInput

WORD = EventType.CONTENT_DELTA


def send_raw(journal: Journal, data: bytes) -> None:
    """Write a frame to the server behind the back of the process."""
    send = vars(journal)["_send"]
    frames = vars(vars(send.__self__)["_frames"])["_writer"]
    frames.write(len(data).to_bytes(4, "big") + data)


async def send_and_wait(messages: Sequence[object], journal: Journal) -> SegmentEnd:
    for message in messages:
        send_raw(journal, message if isinstance(message, bytes) else encode(message))
    await asyncio.Event().wait()
    raise AssertionError


async def violation_of(script: Callable[[Segment, Journal], object], journal: Memory | None = None) -> str:
    """Return what the server says of a process whose driver does this."""
    async with hosted(script) as host:  # type: ignore[arg-type]
        running = asyncio.create_task(host.run_segment("a", SEGMENT, journal or Memory()))
        assert host.listening is not None
        with pytest.raises(ProtocolViolation) as caught:
            await asyncio.wait_for(asyncio.shield(host.listening), 30)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return str(caught.value)


@pytest.mark.parametrize(
    "message",
    [SettleCall(1, "unknown", SUCCESS), b'{"op": "ready", "agents": []}', b"nonsense", Emit(2, WORD), Ended(1)],
    ids=["call", "ready", "nonsense", "segment", "end"],
)
async def test_a_process_that_breaks_the_protocol_is_not_listened_to(message: object) -> None:
    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        return await send_and_wait([message], journal)

    assert await violation_of(script)


@pytest.mark.parametrize(
    "message",
    [Heartbeat(1), Checked(7), Emit(0, WORD, {"content": "x"})],
    ids=["heartbeats", "checks", "segments"],
)
async def test_a_flood_that_nobody_waits_for_is_not_listened_to(message: object) -> None:
    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        return await send_and_wait([message] * 10 * CREDIT, journal)

    assert await violation_of(script) == "a flood of messages that nobody waits for"


async def test_a_flood_of_what_waits_for_no_write_is_not_listened_to() -> None:
    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        for _number in range(10_001):
            journal.settle_call("c", SUCCESS)
        await asyncio.Event().wait()
        raise AssertionError

    assert await violation_of(script) == "more messages than a driver sends"


async def test_what_a_cancelled_segment_still_sends_is_passed_over() -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        if not began.is_set():
            began.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                for _number in range(CREDIT - 1):
                    await journal.emit(WORD)
                may_end.set()
                raise
        await may_end.wait()
        await journal.emit(EventType.CONTENT_COMPLETED)
        return DONE

    async with hosted(script) as host:
        cancelled = asyncio.create_task(host.run_segment("a", SEGMENT, Memory()))
        await began.wait()
        cancelled.cancel()
        journal = Memory()
        assert await host.run_segment("a", SEGMENT, journal) == DONE
    assert journal.sent == [(EventType.CONTENT_COMPLETED, None)]


async def test_a_process_does_not_reach_a_segment_of_another_one() -> None:
    may_end = asyncio.Event()

    async def wait(_: Segment, __: Journal) -> SegmentEnd:
        await may_end.wait()
        return DONE

    async def reach(_: Segment, journal: Journal) -> SegmentEnd:
        return await send_and_wait([Emit(2, WORD, {"content": "mine"}), Ended(2, completed=DONE)], journal)

    journals = [Memory(), Memory()]
    async with hosted(wait) as host:
        running = [asyncio.create_task(host.run_segment("a", SEGMENT, journal)) for journal in journals]
        assert await violation_of(reach) == "a message about a segment that it was not given"
        may_end.set()
        assert await asyncio.gather(*running) == [DONE, DONE]
    assert [journal.sent for journal in journals] == [[], []]


async def test_an_ended_segments_number_cannot_be_used_again() -> None:
    async def script(segment: Segment, journal: Journal) -> SegmentEnd:
        send_raw(journal, encode(Ended(1, completed=DONE)))
        for _number in range(CREDIT):
            send_raw(journal, encode(Emit(1, WORD)))
        await asyncio.Event().wait()
        raise AssertionError(segment)

    journal = Memory()
    async with hosted(script) as host:
        assert await host.run_segment("a", SEGMENT, journal) == DONE
        assert host.listening is not None
        assert not host.listening.done()
    assert journal.sent == []


async def test_what_is_too_large_ends_only_its_own_run() -> None:
    large = "x" * 2000
    scripts = iter(("turn", "answer", "small"))

    async def script(_: Segment, journal: Journal) -> SegmentEnd:
        match next(scripts):
            case "turn":
                journal.record_turn([NewMessage(large, ())], [])
                raise AssertionError
            case "answer":
                return Completed(large)
        await journal.emit(WORD)
        return DONE

    host = FramedHost([Driver(script)], limit=FrameLimit(2000))
    async with host.running():
        with pytest.raises(InvalidInput, match=r"too much at once: a message of \d+ bytes; 2000 are allowed"):
            await host.run_segment("a", SEGMENT, Memory())
        end = await host.run_segment("a", SEGMENT, Memory())
        assert isinstance(end, Failed)
        assert "too large: a message of" in end.message
        assert await host.run_segment("a", SEGMENT, Memory()) == DONE
