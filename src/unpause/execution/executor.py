"""Executes one segment of a run: claim it, go on from the journal, and end paused, completed or failed."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter, time_ns
from typing import TYPE_CHECKING

import structlog

from unpause.agents.driver import AgentProcessDied, Completed, Failed, Paused
from unpause.clock import delays
from unpause.domain.events import Event, EventType
from unpause.domain.runs import EndReason, RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import (
    Collision,
    DatabaseBusy,
    DatabaseUnavailable,
    InvalidInput,
    InvalidTransition,
    LeaseLost,
    RunNotFound,
    UnpauseError,
)
from unpause.execution.recovery import release_crashed
from unpause.execution.requirements import PauseRules, RequirementFactory, doubt_request
from unpause.services.claims import ClaimRules, load_claimed
from unpause.services.notification_outbox import enqueue_notifications
from unpause.services.segment_journal import SegmentJournal
from unpause.store.engine.changes import note_run
from unpause.store.events import add_events
from unpause.store.run_queue import has_room
from unpause.store.runs import find_by_key, give_up, transition
from unpause.store.unreadable import CANNOT_BE_READ
from unpause.tasks import TaskScope, retrieve
from unpause.telemetry import metrics, tracing
from unpause.webhooks.outbox import enqueue_webhooks

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from unpause.agents.driver import AgentDriver, Segment, SegmentEnd
    from unpause.agents.registry import AgentRegistry
    from unpause.domain.nodes import ServedAgents
    from unpause.domain.runs import Run
    from unpause.services.claims import Claimed
    from unpause.services.segment_state import JournalContext
    from unpause.store.engine.database import Connection

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionRules(PauseRules):
    """The settings of execution: how much history, how long a lease, how many runs of one organization."""

    history_runs: int
    lease: timedelta
    max_crashes: int
    per_organization: int | None = None


class Executor:
    """Runs segments, each under the fence of its own claim."""

    def __init__(self, context: JournalContext, agents: AgentRegistry, rules: ExecutionRules) -> None:
        self._context = context
        self._agents = agents
        self._rules = rules
        self._requirements = RequirementFactory(context.clock, context.ids, rules)
        self._journals: dict[int, SegmentJournal] = {}
        self._is_stopping = False

    @property
    def served(self) -> ServedAgents:
        """The agents whose runs are claimed here."""
        return self._agents.served

    @property
    def claim_rules(self) -> ClaimRules:
        """How runs are claimed here."""
        return ClaimRules(self.served, self._rules.lease, self._rules.history_runs)

    def list_held(self) -> list[tuple[int, int]]:
        """Return the runs that are executed here, each with its fence; from any thread."""
        return [(run_key, journal.fence) for run_key, journal in tuple(self._journals.items())]

    def request_pause(self, run_key: int) -> None:
        """Have the run's segment end before its next model or tool call, if it runs here."""
        journal = self._journals.get(run_key)
        if journal is not None:
            journal.request_pause()

    def request_release(self, *, stopping: bool = False) -> None:
        """Have all segments here end before their next model or tool call, for other processes to go on.

        Where the process is ``stopping``, those too whose runs are just being claimed.
        """
        self._is_stopping = self._is_stopping or stopping
        for journal in self._journals.values():
            journal.request_release()

    async def execute(self, run_key: int, claimed: Claimed | None = None) -> bool:
        """Execute the run's next segment, if it can still be claimed; return whether the run is to be tried again.

        ``claimed`` is the run where the transaction that accepted a request has claimed it already.

        The run is to be tried again where its segment was released, and where the database refused even its end: it is
        PENDING then, as it is when the task is cancelled. Only a call that was running then is in doubt. An error of
        the database at the claim is raised; the run is as it was.
        """
        began = time_ns()
        is_claimed = claimed is not None
        claimed = claimed or await self._claim(run_key)
        if claimed is None:
            return False
        run = claimed.segment.run
        with _logged_as(run), tracing.span_below(run.trace, f"segment {run.agent_id}", **_traced_as(run)):
            if not is_claimed:
                tracing.note_span("claim run", began)
            return await self._execute(run_key, claimed)

    async def _execute(self, run_key: int, claimed: Claimed) -> bool:
        segment = claimed.segment
        journal = self._journals[run_key] = SegmentJournal(self._context, claimed, self._rules.lease)
        if self._is_stopping:
            journal.request_release()
        began = perf_counter()
        metrics.RUNNING.inc()
        try:
            return await self._run_or_take_back(segment, journal)
        except (LeaseLost, InvalidTransition, RunNotFound):
            _log.info("segment abandoned", run_id=segment.run.run_id, fence=segment.run.fence)
        except asyncio.CancelledError:
            await asyncio.shield(_give_back(journal))
            raise
        except Exception:  # noqa: BLE001 - the boundary around a segment: its run is released
            _log.exception("segment failed", run_id=segment.run.run_id)
            await self._give_back_when_possible(journal)
            return True
        finally:
            metrics.RUNNING.dec()
            metrics.SEGMENT.labels(segment.run.agent_id).observe(perf_counter() - began)
            # The run's next segment may be here already: it is claimed before this one has returned.
            if self._journals.get(run_key) is journal:
                del self._journals[run_key]
        return False

    async def give_up(self, run_key: int) -> None:
        """End a run as ERROR that cannot be claimed because its rows cannot be read."""
        now = self._context.clock.now()
        message = "The run cannot be executed: this version of the server cannot read what is stored of it"
        reason = EndReason.AGENT_ERROR.value

        def unit(connection: Connection) -> tuple[Event, ...]:
            changes = {"content": message, "end_reason": reason, "ended_at": now, "updated_at": now, "pause_id": None}
            last = give_up(connection, run_key, changes)
            if last is None:
                return ()
            try:
                run = find_by_key(connection, run_key)
            except CANNOT_BE_READ:
                # Not even the run itself can be read, so no webhook gets a message.
                run = None
            if run is not None:
                note_run(connection, run, Trigger.GIVE_UP)
                enqueue_webhooks(connection, run, now)
                enqueue_notifications(connection, run, now)
            event = Event(EventType.RUN_FAILED, now, {"content": message, "reason": reason})
            return add_events(connection, run_key, (event,), last)

        self._context.bus.publish(run_key, await self._context.database.write(unit))

    async def _give_back_when_possible(self, journal: SegmentJournal) -> None:
        """Release the run as soon as the database takes it, however long that takes."""
        for delay in delays():
            await asyncio.sleep(delay)
            try:
                await journal.release()
            except (DatabaseUnavailable, DatabaseBusy):
                continue
            except UnpauseError:
                # It was cancelled or taken over, or an earlier try has released it.
                return
            except Exception:  # noqa: BLE001, S112 - the boundary around a release: it is tried again
                continue
            return

    async def _run_or_take_back(self, segment: Segment, journal: SegmentJournal) -> bool:
        """Execute a segment; where the agent process dies under it, give it back as one whose worker has died."""
        try:
            return await self._run(segment, journal)
        except AgentProcessDied as error:
            _log.warning("run taken back from an agent process that died", run_id=segment.run.run_id, reason=str(error))
        # What the process sent before its end is kept.
        await journal.flush()
        now = self._context.clock.now()

        def unit(connection: Connection) -> tuple[Run, tuple[Event, ...]]:
            run = find_by_key(connection, segment.run.id)
            if run is None or run.fence != segment.run.fence:
                raise RunNotFound
            return release_crashed(connection, run, self._rules.max_crashes, now)

        run, events = await self._context.database.write(unit)
        metrics.RECOVERED.labels("agent_process").inc()
        self._context.bus.publish(run.id, events)
        return run.status is RunStatus.PENDING

    async def _run(self, segment: Segment, journal: SegmentJournal) -> bool:
        """Execute a claimed segment; return whether it was released."""
        doubtful = [call for call in segment.calls if call.in_doubt]
        if doubtful:
            metrics.IN_DOUBT.labels(segment.run.agent_id).inc(len(doubtful))
            requirements = self._requirements.create([(doubt_request(call), call) for call in doubtful])
            await journal.pause(requirements, Paused(requests=()))
            return False
        driver = self._agents.get_driver(segment.run.agent_id, segment.run.source_type)
        end = await self._drive(driver, segment, journal)
        try:
            return await self._end(end, journal)
        except Exception as error:  # the boundary around a segment's end: the run must not stay RUNNING
            if isinstance(error, UnpauseError) and not isinstance(error, Collision):
                raise
            # E.g. text that the database refuses.
            _log.exception("segment end not stored", run_id=segment.run.run_id)
            message = f"The agent's answer could not be stored: {type(error).__name__}"
            await journal.fail(Failed(EndReason.AGENT_ERROR, message))
            return False

    async def _end(self, end: SegmentEnd, journal: SegmentJournal) -> bool:
        """Write the end; return whether the segment was released."""
        match end:
            case Paused(requests=()) if journal.releases:
                await journal.release()
                return True
            case Paused():
                waiting = [(request, journal.get_call(request.call_id)) for request in end.requests]
                await journal.pause(self._requirements.create(waiting), end)
            case Completed():
                await journal.complete(end)
            case Failed():
                await journal.fail(end)
        return False

    async def _drive(self, driver: AgentDriver, segment: Segment, journal: SegmentJournal) -> SegmentEnd:
        """Run the driver beside the task that commits its events; a bug in either ends the run as ERROR."""
        run = segment.run
        try:
            # A run that was cancelled or taken over says so at every write.
            async with TaskScope(expected=(LeaseLost,)) as tasks:
                flushing = tasks.start(journal.flush_as_it_grows(), f"flush run {run.id}")
                driving = tasks.start(_run_driver(driver, segment, journal), f"drive run {run.id}")
                for task in (flushing, driving):
                    # Where the segment is stopped as they fail, nobody asks any more.
                    task.add_done_callback(retrieve)
                await asyncio.wait({flushing, driving}, return_when=asyncio.FIRST_COMPLETED)
                # The end is written after everything before it: another connection may be faster.
                await journal.settle()
                if flushing.done():
                    flushing.result()
                if driving.cancelled():
                    # Not by us: the agent waited for something of its own that was cancelled.
                    return Failed(EndReason.AGENT_ERROR, "The agent failed: CancelledError")
                return driving.result()
        except (LeaseLost, InvalidTransition, AgentProcessDied):
            raise
        except InvalidInput as error:
            return Failed(EndReason.MODEL_ERROR, error.message)
        except Exception as error:  # noqa: BLE001 - the boundary around a driver: whatever it raises ends only this run
            return _driver_failed(run, error)

    async def _claim(self, run_key: int) -> Claimed | None:
        now = self._context.clock.now()
        committed: list[Claimed] = []

        def unit(connection: Connection) -> Claimed:
            limit = self._rules.per_organization
            if limit is not None:
                waiting = find_by_key(connection, run_key)
                if waiting is None or not has_room(connection, waiting.organization_id, limit):
                    # It stays PENDING until another run of its organization ends.
                    raise RunNotFound
            claimed = transition(
                connection,
                run_key,
                Trigger.CLAIM,
                lease=self._rules.lease,
                served=self.served,
                changes={"updated_at": now},
            )
            return load_claimed(connection, claimed.run, self._rules.history_runs)

        try:
            # A locked run is skipped: a poll finds it again.
            return await self._context.database.write(unit, committed.append, waits=False)
        except asyncio.CancelledError:
            for claimed in committed:
                await asyncio.shield(_give_back(SegmentJournal(self._context, claimed, self._rules.lease)))
            raise
        except (InvalidTransition, RunNotFound):
            # Claimed elsewhere, cancelled meanwhile, or for a process that serves its agent.
            return None


async def _run_driver(driver: AgentDriver, segment: Segment, journal: SegmentJournal) -> SegmentEnd:
    """Run the driver; all that is logged meanwhile names the run and its agent.

    What is no ``Exception``, such as SystemExit, ends the run here: asyncio would raise it out of the event loop.
    """
    run = segment.run
    with structlog.contextvars.bound_contextvars(run_id=run.run_id, agent=run.agent_id):
        try:
            return await driver.run_segment(segment, journal)
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - the boundary around a driver
            return _driver_failed(run, error)


def _logged_as(run: Run) -> AbstractContextManager[object]:
    """Return what has lines of the log name the request that the run goes on for, whichever process it reached."""
    request_id = tracing.Origin.read(run.trace).request_id
    return nullcontext() if request_id is None else structlog.contextvars.bound_contextvars(request_id=request_id)


def _traced_as(run: Run) -> dict[str, object]:
    return {"run_id": run.run_id, "agent": run.agent_id, "organization": run.organization_id, "fence": run.fence}


def _driver_failed(run: Run, error: BaseException) -> Failed:
    _log.error("driver failed", run_id=run.run_id, agent=run.agent_id, exc_info=error)
    return Failed(EndReason.AGENT_ERROR, f"The agent failed: {type(error).__name__}")


async def _give_back(journal: SegmentJournal) -> None:
    try:
        await journal.release()
    except UnpauseError:
        _log.info("release skipped: the run was cancelled or taken over")
