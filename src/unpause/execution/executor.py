"""Executes one segment of a run: claim, go on from the journal, and end paused, done or failed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from unpause.agents.driver import Completed, Failed, Paused, Segment, Wanted
from unpause.domain.requirements import OnExpire, Requirement, RequirementKind
from unpause.domain.runs import EndReason
from unpause.domain.transitions import Trigger
from unpause.errors import InvalidTransition, LeaseLost, RunNotFound, UnpauseError
from unpause.runs.recorder import Recorder
from unpause.runs.snapshots import doubt_text, with_requirements
from unpause.store.journal import list_inputs, list_messages, list_tool_calls
from unpause.store.requirements import list_requirements
from unpause.store.runs import transition
from unpause.store.sessions import list_history

if TYPE_CHECKING:
    from unpause.agents.driver import AgentDriver, SegmentEnd
    from unpause.agents.registry import AgentRegistry
    from unpause.domain.runs import Run, ToolCall
    from unpause.runs.recorder import RecorderTools
    from unpause.store.database import Connection

_log = structlog.get_logger(__name__)

# How long to wait before a run is given back to a database that failed: doubling from the first to the last.
_FIRST_RETRY_SECONDS = 0.5
_LAST_RETRY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ExecutionRules:
    """What the settings say about executing: how much history, how long a claim lasts, when pauses expire."""

    history_runs: int
    lease: timedelta
    pause_expires_in: float | None = None
    approval_expires_in: float | None = None
    on_expire: OnExpire = OnExpire.REJECT
    remind_before: float | None = None


class Executor:
    """Runs segments, each under the fence of its own claim."""

    def __init__(self, tools: RecorderTools, agents: AgentRegistry, rules: ExecutionRules) -> None:
        self._tools = tools
        self._agents = agents
        self._rules = rules
        self._recorders: dict[int, Recorder] = {}

    def request_pause(self, run_key: int) -> None:
        """Have the run's segment end before its next model or tool call, if it runs here."""
        recorder = self._recorders.get(run_key)
        if recorder is not None:
            recorder.request_pause()

    async def execute(self, run_key: int) -> bool:
        """Execute the run's next segment, if it is still there to claim; return whether it has to be tried again.

        That is so where the database refused even the end of the segment: then the run is PENDING again, as it is when
        the task is cancelled. A call that was running is in doubt.
        """
        segment = await self._claim(run_key)
        if segment is None:
            return False
        recorder = self._recorders[run_key] = Recorder(self._tools, segment)
        try:
            await self._run(segment, recorder)
        except (LeaseLost, InvalidTransition, RunNotFound):
            _log.info("segment abandoned", run_id=segment.run.run_id, fence=segment.run.fence)
        except asyncio.CancelledError:
            await asyncio.shield(_give_back(recorder))
            raise
        except Exception:  # noqa: BLE001 - the boundary around a segment: without a database nothing can be ended
            _log.exception("segment failed", run_id=segment.run.run_id)
            await self._give_back_when_possible(recorder)
            return True
        finally:
            # The run's next segment may be here already: it is claimed before this one is done with.
            if self._recorders.get(run_key) is recorder:
                del self._recorders[run_key]
        return False

    async def _give_back_when_possible(self, recorder: Recorder) -> None:
        """Release the run as soon as the database takes it, however long that is."""
        pause = _FIRST_RETRY_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                await recorder.release()
            except UnpauseError:
                return
            except Exception:  # noqa: BLE001 - the database is still away
                pause = min(2 * pause, _LAST_RETRY_SECONDS)
            else:
                return

    async def _run(self, segment: Segment, recorder: Recorder) -> None:
        doubtful = [call for call in segment.calls if call.in_doubt]
        if doubtful:
            await recorder.pause(self._doubts(doubtful, segment), Paused(wanted=()))
            return
        driver = self._agents.find_driver(segment.run)
        if driver is None:
            message = f"Agent {segment.run.agent_id!r} is not served here any more"
            await recorder.fail(Failed(EndReason.AGENT_ERROR, message))
            return
        end = await self._drive(driver, segment, recorder)
        try:
            await self._end(end, recorder)
        except UnpauseError:
            raise
        except Exception as error:  # noqa: BLE001 - e.g. text that no database takes: the run must not stay RUNNING
            _log.exception("a segment's end could not be written", run_id=segment.run.run_id)
            message = f"The agent's answer could not be stored: {type(error).__name__}"
            await recorder.fail(Failed(EndReason.AGENT_ERROR, message))

    async def _end(self, end: SegmentEnd, recorder: Recorder) -> None:
        match end:
            case Paused():
                await recorder.pause(self._requirements(end, recorder), end)
            case Completed():
                await recorder.complete(end)
            case Failed():
                await recorder.fail(end)

    async def _drive(self, driver: AgentDriver, segment: Segment, recorder: Recorder) -> SegmentEnd:
        """Run the driver beside the task that commits its events; a bug in either ends the run as ERROR."""
        flushing = asyncio.create_task(recorder.flush_as_it_grows(), name=f"flush run {segment.run.id}")
        driving = asyncio.create_task(driver.run_segment(segment, recorder), name=f"drive run {segment.run.id}")
        try:
            await asyncio.wait({flushing, driving}, return_when=asyncio.FIRST_COMPLETED)
            if not driving.done():
                flushing.result()
            if driving.cancelled():
                # Nobody cancelled this segment: the agent waited for something of its own that was cancelled.
                return Failed(EndReason.AGENT_ERROR, "The agent failed: CancelledError")
            return driving.result()
        except (LeaseLost, InvalidTransition):
            raise
        except Exception as error:  # noqa: BLE001 - the boundary around a driver: whatever it raises ends only this run
            _log.exception("driver failed", run_id=segment.run.run_id, agent=segment.run.agent_id)
            return Failed(EndReason.AGENT_ERROR, f"The agent failed: {type(error).__name__}")
        finally:
            for task in (flushing, driving):
                task.cancel()
            await asyncio.gather(flushing, driving, return_exceptions=True)

    async def _claim(self, run_key: int) -> Segment | None:
        now = self._tools.clock.now()

        def unit(connection: Connection) -> Segment:
            changes = {"lease_expires_at": now + self._rules.lease, "updated_at": now}
            run = transition(connection, run_key, Trigger.CLAIM, changes=changes)
            return self._load(connection, run)

        try:
            return await self._tools.database.write(unit)
        except (InvalidTransition, RunNotFound):
            # Somebody else has it, or it was cancelled meanwhile.
            return None

    def _load(self, connection: Connection, run: Run) -> Segment:
        history = list_history(connection, run.session_key, run.id, self._rules.history_runs)
        inputs = tuple(given for given in list_inputs(connection, run.id) if not given.consumed)
        if run.fence == 1:
            return Segment(run=run, history=tuple(history), inputs=inputs)
        requirements = tuple(list_requirements(connection, run.id))
        return Segment(
            run=run,
            history=tuple(history),
            messages=tuple(message.native for message in list_messages(connection, run.id)),
            calls=with_requirements(list_tool_calls(connection, run.id), requirements),
            requirements=requirements,
            inputs=inputs,
        )

    def _doubts(self, calls: list[ToolCall], segment: Segment) -> list[Requirement]:
        wanted = [
            Wanted(call.tool_call_id, RequirementKind.CONFIRMATION, message=doubt_text(call.tool_name))
            for call in calls
        ]
        by_id = {call.tool_call_id: call for call in calls}
        pause_id = self._tools.ids.fresh()
        return [
            replace(
                self._requirement(pause_id, want, by_id[want.call_id]),
                # A fresh id: a repeated answer to the first question must not count for this one.
                tool_call_id=f"{want.call_id}-doubt-{segment.run.fence}",
                in_doubt=True,
            )
            for want in wanted
        ]

    def _requirements(self, end: Paused, recorder: Recorder) -> list[Requirement]:
        pause_id = self._tools.ids.fresh()
        return [self._requirement(pause_id, want, recorder.get_call(want.call_id)) for want in end.wanted]

    def _requirement(self, pause_id: str, want: Wanted, call: ToolCall) -> Requirement:
        now = self._tools.clock.now()
        rules = self._rules
        usual = rules.approval_expires_in if want.approval == "required" else rules.pause_expires_in
        seconds = want.expires_in or usual
        expires_at = now + timedelta(seconds=seconds) if seconds else None
        remind_at = None
        if expires_at is not None and rules.remind_before is not None:
            remind_at = max(now, expires_at - timedelta(seconds=rules.remind_before))
        return Requirement(
            id=self._tools.ids.fresh(),
            pause_id=pause_id,
            # A tool may ask again once its call was answered: that answer, repeated, must not count for this question.
            tool_call_id=want.call_id if call.requirement is None else f"{want.call_id}-{pause_id[:8]}",
            call_id=want.call_id,
            tool_name=call.tool_name,
            tool_args=call.tool_args,
            kind=want.kind,
            created_at=now,
            fields=want.fields,
            editable=want.editable,
            question=want.question,
            approval=want.approval,
            approval_status="pending" if want.approval == "required" else None,
            message=want.message,
            expires_at=expires_at,
            on_expire=want.on_expire or rules.on_expire,
            remind_at=remind_at,
        )


async def _give_back(recorder: Recorder) -> None:
    try:
        await recorder.release()
    except UnpauseError:
        _log.info("nothing to give back: the run was cancelled, or belongs to somebody else")
