"""Creates, continues and reads runs: one transaction each, for every API alike."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.conflicts import pause_is_over
from unpause.domain.events import Event, EventType
from unpause.domain.runs import SETUP_COMMANDS, RunFilter, RunInput, RunStatus
from unpause.domain.scopes import SETUP
from unpause.domain.sessions import NewSession
from unpause.domain.storable import refuse_unstorable
from unpause.errors import Conflict, RunHasEnded, RunInProgress, busy_with
from unpause.services.cancel_run import Cancellation, cancel
from unpause.services.commands import Accepted
from unpause.services.continue_run import ContinueHandler
from unpause.services.continue_with_approvals import continue_approving
from unpause.services.deadlines import LockedRun, announce_outcome, bring_up_to_date
from unpause.services.idempotency import find_earlier
from unpause.services.run_resumability import model_columns, refuse_unserved
from unpause.services.value_checks import write_checked
from unpause.services.views import view_of
from unpause.store.audit import add_entries
from unpause.store.events import add_events
from unpause.store.idempotency import add_effect, forget_request, keep_answer
from unpause.store.journal import add_input
from unpause.store.run_lists import list_session_runs
from unpause.store.runs import get_run, insert_run, request_pause
from unpause.store.sessions import change_session, ensure_session, keep_state
from unpause.streaming.follow import Begun
from unpause.telemetry.tracing import Origin, continued_trace, current_origin, new_trace, traced
from unpause.webhooks.outbox import set_run_targets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpause.agents.driver import ModelName
    from unpause.domain.idempotency import RequestKey
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run, RunRef, RunView
    from unpause.domain.sessions import Session
    from unpause.services.claims import Slot
    from unpause.services.commands import ContinueRun, CreateRun
    from unpause.services.context import ServiceContext
    from unpause.services.value_checks import ValueChecks
    from unpause.store.engine.database import Connection

_SUMMARY_CHARACTERS = 80


class _ContinueRequest(NamedTuple):
    """A continue, the key that a repeat of it has too, and the slot that may execute it at once."""

    principal: Principal
    ref: RunRef
    command: ContinueRun
    key: RequestKey | None
    slot: Slot | None
    origin: Origin


class _Continued(NamedTuple):
    """A run as a continue left it, and the outcome: a Conflict where it came too late."""

    locked: LockedRun
    outcome: Accepted | Conflict


class RunService:
    """The use cases of runs."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    @traced("create run")
    async def create_run(
        self, principal: Principal, command: CreateRun, request_key: RequestKey | None = None
    ) -> Accepted:
        """Create a run and announce it to the executors; with a key that created one before, return that one.

        Raises AgentNotFound for an agent not served here, ModelNotAllowed, InvalidInput for text that cannot be stored,
        IdempotencyMismatch for a key used with something else, RunLimitReached, RunInProgress.
        """
        await self._context.agents.expect()
        agent = self._context.agents.get_driver(command.agent_id, command.source_type)
        if command.source_type == SETUP_COMMANDS:
            principal.require_scope(SETUP)
        else:
            principal.require_agent(agent.agent_id)
        model = agent.describe_model(command.model)
        refuse_unstorable(command, principal.user_id)
        values = self._new_row(principal, command, model)

        def unit(connection: Connection, slot: Slot | None) -> tuple[Accepted, tuple[Event, ...]]:
            if slot is not None:
                slot.claimed = None
            now = values["created_at"]
            earlier = find_earlier(connection, request_key, now)
            if earlier is not None:
                return earlier, ()
            self._context.limits.refuse_run(connection, principal.organization_id, now)
            run, events = self._add_run(connection, principal, command, values, slot)
            if request_key is not None:
                add_effect(connection, request_key, run.id, 0)
            return Accepted(run, after=0), events

        database, dispatcher = self._context.database, self._context.dispatcher

        def committed(outcome: tuple[Accepted, tuple[Event, ...]]) -> None:
            run, is_claimed = outcome[0].run, slot is not None and slot.commit()
            if run.run_id == values["run_id"] and not is_claimed:
                dispatcher.ready(run.id)

        with busy_with(f"Session {values['session_id']}"), dispatcher.reserving() as slot:
            fitting = slot if slot is not None and slot.fits(command.agent_id, command.source_type) else None
            accepted, events = await database.write(lambda connection: unit(connection, fitting), committed)
            return self._with_begun(accepted, events, slot)

    def _with_begun(self, accepted: Accepted, events: tuple[Event, ...], slot: Slot | None) -> Accepted:
        """Return the outcome with what its follower need not read, where the slot executes it."""
        if slot is None or slot.claimed is None:
            return accepted
        return replace(accepted, begun=Begun(events, self._context.bus.position()))

    def _add_run(
        self,
        connection: Connection,
        principal: Principal,
        command: CreateRun,
        values: Mapping[str, Any],
        slot: Slot | None,
    ) -> tuple[Run, tuple[Event, ...]]:
        """Add the run with its session, images, webhooks and the first event of its log; claim it for the slot."""
        now = values["created_at"]
        new = NewSession(values["session_id"], command.agent_id, summary_of(command.prompt))
        session = ensure_session(connection, principal, new, now, max_unfinished=self._context.limits.unfinished)
        if command.in_turn:
            _refuse_second_run(connection, session, command.agent_id)
        if not session.agent_id:
            # Made by a client for whichever agent comes first.
            change_session(connection, session, {"agent_id": command.agent_id})
        state = keep_state(connection, session, command.session_state)
        columns = {**values, "session_key": session.key, "session_state": state}
        run = insert_run(connection, columns, None if slot is None else slot.rules.lease)
        first = RunInput(0, command.prompt, command.images)
        if first.images:
            # The run itself keeps the prompt.
            add_input(connection, run.id, first, principal.user_id, now)
        if command.webhooks is not None:
            set_run_targets(connection, run, command.webhooks, principal, now)
        started = Event(EventType.RUN_STARTED, now, {name: values[name] for name in ("model", "model_provider")})
        events = add_events(connection, run.id, (started,), run.last_sequence)
        if slot is not None:
            slot.take_new(connection, run, first, in_new_session=not command.session_id)
        return run, events

    def _new_row(self, principal: Principal, command: CreateRun, model: ModelName) -> dict[str, Any]:
        """Return the columns of a new run; raise InvalidInput for JSON over its limit."""
        stored = {name: getattr(command, name) for name in ("metadata", "session_state", "dependencies")}
        frontend = command.frontend.as_json() if command.frontend else None
        self._context.limits.refuse_json({**stored, "tools and context": frontend})
        now = self._context.clock.now()
        return {
            **stored,
            **new_trace(),
            "agent_id": command.agent_id,
            "source_type": command.source_type,
            "prompt": command.prompt,
            "summary": summary_of(command.prompt),
            "output_schema": asdict(command.output_schema) if command.output_schema else None,
            "frontend": frontend,
            "model_choice": command.model,
            "model": model.name,
            "model_provider": model.provider,
            "repo_id": command.repo_id,
            "run_id": self._context.ids.fresh(),
            "organization_id": principal.organization_id,
            "session_id": command.session_id or self._context.ids.fresh(),
            "user_id": principal.user_id,
            "last_sequence": 1,
            "created_at": now,
            "updated_at": now,
        }

    @traced("continue run")
    async def continue_run(
        self, principal: Principal, ref: RunRef, command: ContinueRun, request_key: RequestKey | None = None
    ) -> Accepted:
        """Take a client's answers and, when nothing is open any more, send the run on.

        Raises RunNotFound, InvalidTransition, AgentUnavailable, ApprovalPending, RequirementMismatch, RequirementsOpen,
        InvalidInput or IdempotencyMismatch; then nothing changed, but that what has expired is decided.
        """
        refuse_unstorable(command, principal.user_id)
        self._context.limits.refuse_answers(command)
        await self._context.agents.expect()

        context = self._context
        with busy_with(str(ref)), context.dispatcher.reserving() as slot:
            request = _ContinueRequest(principal, ref, command, request_key, slot, current_origin())
            unit, committed = partial(self._continue, request), partial(announce_outcome, context, slot)
            locked, outcome = await write_checked(context.database, context.agents, unit, committed)
            if isinstance(outcome, Accepted):
                return self._with_begun(outcome, locked.events, slot)
        raise outcome

    def _continue(self, request: _ContinueRequest, connection: Connection, checks: ValueChecks) -> _Continued:
        """Claim the key, lock the run, decide what has expired, and take the answers."""
        if request.slot is not None:
            request.slot.claimed = None
        # The key before the run, as everywhere: see the order of locks in `store.engine.database`.
        earlier = find_earlier(connection, request.key, self._context.clock.now())
        # Two continues that each answer a part, at once, must see one another: else both leave the run paused.
        run = _lock_run(connection, request.principal, request.ref)
        if run.source_type == SETUP_COMMANDS:
            # An answer may be a command.
            request.principal.require_scope(SETUP)
        now = self._context.clock.now()
        if earlier is not None:
            return _Continued(LockedRun(run, [], now), replace(earlier, moved=False))
        locked = bring_up_to_date(connection, run, now)
        late = locked.refusal_of(request.command.answers, request.command.prompt)
        if late is None:
            return self._take_answers(request, connection, locked, checks)
        # It is refused, but what expired stays decided.
        if request.key is not None:
            forget_request(connection, request.key)
        return _Continued(locked, late)

    def _take_answers(
        self, request: _ContinueRequest, connection: Connection, locked: LockedRun, checks: ValueChecks
    ) -> _Continued:
        """Keep the answers, and send the run on when nothing is open any more."""
        run, slot = locked.run, request.slot
        refuse_unserved(self._context, connection, run)
        handler = ContinueHandler(
            connection,
            run,
            locked.requirements,
            request.principal,
            request.command,
            locked.now,
            columns={
                **model_columns(self._context, run, request.command.model),
                **continued_trace(run.trace, request.origin),
            },
            checks=checks,
            slot=slot if slot is not None and slot.fits(run.agent_id, run.source_type) else None,
            known_calls=locked.calls,
        )
        accepted, events = continue_approving(handler) if request.command.approves else handler.apply()
        if request.key is not None:
            add_effect(connection, request.key, run.id, accepted.after)
        return _Continued(locked._replace(events=(*locked.events, *events), moved=accepted.moved), accepted)

    async def pause_run(self, principal: Principal, ref: RunRef) -> Run:
        """Ask an unfinished run to pause before its next model or tool call; one that is paused stays as it is.

        Raises RunNotFound, or RunHasEnded.
        """

        def unit(connection: Connection) -> tuple[Run, bool]:
            run, now = _lock_run(connection, principal, ref), self._context.clock.now()
            if run.status.is_final:
                raise RunHasEnded(run.status.value)
            requested = request_pause(connection, run.id, now)
            if requested and run.pause_requested_at is None:
                action = AuditAction.PAUSE_REQUESTED
                add_entries(connection, [entry_by(principal, action, now, run_id=run.run_id, subject=run.run_id)])
            return run, requested

        def committed(outcome: tuple[Run, bool]) -> None:
            run, requested = outcome
            if requested:
                self._context.dispatcher.pause_requested(run.id)

        with busy_with(str(ref)):
            run, _ = await self._context.database.write(unit, committed)
        return run

    async def cancel_run(self, principal: Principal, ref: RunRef, pause_id: str | None = None) -> Run:
        """End the run now, for good; one that has ended stays as it is. Raises RunNotFound.

        With a ``pause_id`` only while it waits in that pause: raises PauseIsOver.
        """

        def unit(connection: Connection) -> tuple[Run, tuple[Event, ...]]:
            run = _lock_run(connection, principal, ref)
            # Not before: who follows looks for changes by their time, and the one that held the run may have been long.
            now = self._context.clock.now()
            if pause_id is not None and (run.status, run.pause_id) != (RunStatus.PAUSED, pause_id):
                raise pause_is_over(run)
            if run.status.is_final:
                return run, ()
            why = Cancellation(content=f"Run {run.run_id} was cancelled", payload={"by": principal.name})
            done = entry_by(principal, AuditAction.CANCELLED, now, run_id=run.run_id, subject=run.run_id)
            add_entries(connection, [done])
            return cancel(connection, run, why, now)

        def committed(outcome: tuple[Run, tuple[Event, ...]]) -> None:
            run, events = outcome
            self._context.bus.publish(run.id, events)
            if events:
                self._context.dispatcher.cancelled(run.id)
                self._context.bus.requirements_changed(run.id)

        with busy_with(str(ref)):
            run, _ = await self._context.database.write(unit, committed)
        return run

    async def keep_answer(self, request_key: RequestKey, answer: str) -> None:
        """Keep what was answered to a request with a key, for when it is sent again."""
        await self._context.database.write(lambda connection: keep_answer(connection, request_key, answer))

    async def get_run(self, principal: Principal, ref: RunRef) -> Run:
        """Return the run; raise RunNotFound."""
        return await self._context.database.read(lambda connection: get_run(connection, principal.visibility, ref))

    async def get_view(self, principal: Principal, ref: RunRef) -> RunView:
        """Return the run with its calls, messages and requirements, all of one moment; raise RunNotFound."""
        return await self._context.database.read(
            lambda connection: view_of(connection, get_run(connection, principal.visibility, ref))
        )


def _lock_run(connection: Connection, principal: Principal, ref: RunRef) -> Run:
    """Return the run, locked; raise RunNotFound, or AgentForbidden for an agent that the principal may not use."""
    run = get_run(connection, principal.visibility, ref, locked=True)
    principal.require_agent(run.agent_id)
    return run


def _refuse_second_run(connection: Connection, session: Session, agent_id: str) -> None:
    """Raise RunInProgress where the newest run of the agent in the session, which is locked, has not ended."""
    for run in list_session_runs(connection, session.key, RunFilter(agent_id=agent_id), limit=1, newest=True):
        if not run.status.is_final:
            raise RunInProgress(run.run_id, run.status.value)


def summary_of(prompt: str) -> str | None:
    """Return a short title: the beginning of the first line that is not blank."""
    line = next((line.strip() for line in prompt.splitlines() if line.strip()), "")
    if len(line) <= _SUMMARY_CHARACTERS:
        return line or None
    return line[: _SUMMARY_CHARACTERS - 1].rstrip() + "…"
