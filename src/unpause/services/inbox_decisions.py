"""Decides one requirement of the inbox, and sends its run on in the same transaction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.arguments import is_same_json
from unpause.domain.inbox import RequirementStatus
from unpause.domain.principal import Visibility
from unpause.domain.repeats import is_repeat
from unpause.domain.requirements import Answer, Decision, RequirementKind, ToolAnswer, match_answers
from unpause.domain.runs import RunRef, RunStatus
from unpause.domain.storable import refuse_unstorable
from unpause.errors import AlreadyDecided, RequirementMismatch, RequirementNotFound, busy_with
from unpause.services.approvals import resolve_pending
from unpause.services.commands import ContinueRun, Decided, ResolveApproval, Verb
from unpause.services.continue_run import ContinueHandler
from unpause.services.deadlines import announce_outcome, bring_up_to_date
from unpause.services.decisions import Decisions, answer_of, decider_of, may_see, require_access
from unpause.services.idempotency import find_repeated
from unpause.services.inbox import Inbox, has_confirmed
from unpause.services.run_resumability import model_columns, refuse_unserved
from unpause.services.value_checks import write_checked
from unpause.store.approvals import find_approval
from unpause.store.grants import has_grant
from unpause.store.idempotency import add_effect, forget_request
from unpause.store.inbox import find_request
from unpause.store.requirements import list_requirements
from unpause.store.runs import find_run, get_run
from unpause.telemetry.tracing import Origin, continued_trace, current_origin, traced

if TYPE_CHECKING:
    from unpause.domain.idempotency import RequestKey
    from unpause.domain.inbox import Request
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Requirement
    from unpause.services.claims import Slot
    from unpause.services.commands import DecideRequirement
    from unpause.services.context import ServiceContext
    from unpause.services.deadlines import LockedRun
    from unpause.services.value_checks import ValueChecks
    from unpause.store.engine.database import Connection

_PAST = {Decision.CONFIRMED: "approved", Decision.REJECTED: "rejected", Decision.ANSWERED: "answered"}
_VERBS = {Decision.CONFIRMED: Verb.APPROVE, Decision.REJECTED: Verb.REJECT, Decision.ANSWERED: Verb.ANSWER}


class _Submitted(NamedTuple):
    """A decision, the key that a repeat of it has too, and the slot that may execute the run at once."""

    principal: Principal
    command: DecideRequirement
    key: RequestKey | None
    slot: Slot | None
    origin: Origin


class _Outcome(NamedTuple):
    """A run after a decision; or the conflict, where another decision came first."""

    locked: LockedRun
    decided: Decided | AlreadyDecided


class InboxDecisions:
    """The use case of people who decide what waits in the inbox."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._inbox = Inbox(context)

    @traced("decide requirement")
    async def decide(
        self, principal: Principal, command: DecideRequirement, request_key: RequestKey | None = None
    ) -> Decided:
        """Decide a requirement, and send its run on where nothing of it is open any more.

        The same decision of the same person again changes nothing, but that it sends on a run that was left paused.

        Raises RequirementNotFound, AlreadyDecided, NotADecider or another Denied, RequirementMismatch,
        RequirementsOpen, AgentUnavailable, InvalidInput or IdempotencyMismatch; then nothing changed, but that what has
        expired is decided.
        """
        refuse_unstorable(command, principal.user_id)
        context = self._context
        context.limits.refuse_json({"values": command.values, "arguments": command.arguments})
        await context.agents.expect()
        with busy_with(f"The run of requirement {command.requirement_id}"), context.dispatcher.reserving() as slot:
            submitted = _Submitted(principal, command, request_key, slot, current_origin())
            unit, committed = partial(self._unit, submitted), partial(announce_outcome, context, slot)
            _, outcome = await write_checked(context.database, context.agents, unit, committed)
        if isinstance(outcome, Decided):
            return outcome
        raise outcome

    def _unit(self, submitted: _Submitted, connection: Connection, checks: ValueChecks) -> _Outcome:
        """Claim the key, lock the run, decide what has expired, and apply the decision."""
        principal, command, key, slot, _ = submitted
        if slot is not None:
            slot.claimed = None
        now = self._context.clock.now()
        earlier = find_repeated(connection, key, now)
        request = _find(connection, principal, command)
        ref = RunRef(id=request.run.id)
        run = find_run(connection, Visibility(principal.organization_id), ref, locked=True)
        if run is None:
            # It was deleted, with its requirements.
            raise RequirementNotFound
        locked = bring_up_to_date(connection, run, now)
        # As the last one who had the lock left it.
        request = _find(connection, principal, command)
        handler = _DecisionHandler(self._context, connection, submitted, locked, request, checks)
        if earlier is None and not handler.is_repeated and request.status is not RequirementStatus.OPEN:
            if key is not None:
                forget_request(connection, key)
            return _Outcome(locked, _too_late(request))
        changed = locked if earlier is not None else handler.apply()
        if earlier is None and key is not None:
            add_effect(connection, key, run.id, 0)
        item = self._inbox.read_item(connection, principal, command.requirement_id, now, with_earlier=False)
        after = get_run(connection, Visibility(principal.organization_id), ref)
        continued = changed.moved and not locked.moved
        return _Outcome(changed, Decided(item, after, continued, earlier.answer if earlier is not None else None))


@dataclass(frozen=True, slots=True)
class _DecisionHandler:
    """Applies one decision to a locked run."""

    context: ServiceContext
    connection: Connection
    submitted: _Submitted
    locked: LockedRun
    request: Request
    checks: ValueChecks

    @property
    def is_repeated(self) -> bool:
        """Whether the principal has decided the requirement just so before."""
        principal, command = self.submitted.principal, self.submitted.command
        requirement = self.request.requirement
        if decider_of(principal) is None:
            return False
        if command.verb is Verb.APPROVE and command.remember is None and has_confirmed(principal, self.request):
            return requirement.answer is None or requirement.answer.decision is not Decision.REJECTED
        if not has_grant(self.connection, requirement.id, command.remember):
            return False
        is_same = requirement.answer is not None and _is_same(requirement, requirement.answer, principal, command)
        return is_same or (requirement.approval == "required" and self._has_resolved())

    def _has_resolved(self) -> bool:
        """Whether the principal has resolved the requirement's approval just so."""
        principal, command = self.submitted.principal, self.submitted.command
        approval = find_approval(
            self.connection, Visibility(self.locked.run.organization_id), self.request.requirement.id
        )
        status = ApprovalStatus.REJECTED if command.verb is Verb.REJECT else ApprovalStatus.APPROVED
        return (
            approval is not None
            and command.verb is not Verb.ANSWER
            and (approval.status, approval.resolved_by) == (status, principal.user_id)
            and is_same_json(approval.resolution_data, _resolution_data(command))
        )

    def apply(self) -> LockedRun:
        """Keep the decision, and move the run where it can; return it with the new events."""
        if self.locked.run.status is not RunStatus.PAUSED:
            return self.locked
        requirement, command = self.request.requirement, self.submitted.command
        requirements, answers = self.locked.requirements, dict[str, Answer]()
        if self.is_repeated and (not command.continues or any(item.is_open for item in requirements)):
            return self.locked
        require_access(self.submitted.principal, self.locked.run, requirement)
        if command.continues:
            refuse_unserved(self.context, self.connection, self.locked.run)
        if self.is_repeated:
            # It was decided without sending the run on.
            pass
        elif requirement.awaits_approval:
            self._resolve(requirement)
            requirements = list_requirements(self.connection, self.locked.run.id)
        else:
            answers = {requirement.id: self._answer(requirement)}
        return self._continue(requirements, answers)

    def _continue(self, requirements: list[Requirement], answers: dict[str, Answer]) -> LockedRun:
        run, slot = self.locked.run, self.submitted.slot
        handler = ContinueHandler(
            self.connection,
            run,
            requirements,
            self.submitted.principal,
            ContinueRun(),
            self.locked.now,
            columns={**model_columns(self.context, run), **continued_trace(run.trace, self.submitted.origin)},
            slot=slot if slot is not None and slot.fits(run.agent_id, run.source_type) else None,
        )
        accepted, events = handler.decide(answers, moves=self.submitted.command.continues)
        return self.locked._replace(run=accepted.run, events=(*self.locked.events, *events), moved=accepted.moved)

    def _resolve(self, requirement: Requirement) -> None:
        """Resolve the approval, as an administrator does through AgentOS's route."""
        command = self.submitted.command
        if command.verb is Verb.ANSWER:
            raise RequirementMismatch(f"{requirement.label} needs an administrator: approve or reject it")
        approval = find_approval(self.connection, Visibility(self.locked.run.organization_id), requirement.id)
        if approval is None:
            raise RequirementNotFound
        resolving = ResolveApproval(
            approval.id,
            approved=command.verb is Verb.APPROVE,
            data=_resolution_data(command),
            remember=command.remember,
        )
        with Decisions(self.connection, self.locked.run, self.submitted.principal, self.locked.now) as decisions:
            resolve_pending(decisions, approval, resolving, self.checks)

    def _answer(self, requirement: Requirement) -> Answer:
        """Return the decision as the answer to the requirement, its values checked by the tool."""
        principal, now = self.submitted.principal, self.locked.now
        # Before an author's validator runs for a caller who may not decide.
        Decisions(self.connection, self.locked.run, principal, now).refuse_others(requirement)
        command = self.submitted.command
        sent = replace(_tool_answer(requirement, command), remember=command.remember)
        (fitting,) = match_answers([requirement], [sent], frozenset({requirement.tool_call_id})).values()
        return answer_of(requirement, self.checks.take(self.locked.run, requirement, fitting), principal, now)


def _find(connection: Connection, principal: Principal, command: DecideRequirement) -> Request:
    request = find_request(connection, principal.organization_id, command.requirement_id)
    if request is None or not may_see(principal, request.run, request.requirement):
        raise RequirementNotFound
    return request


def _tool_answer(requirement: Requirement, command: DecideRequirement) -> ToolAnswer:
    """Return the decision as a continue would send it; raise RequirementMismatch for one of another kind."""
    call = requirement.tool_call_id
    if command.verb is Verb.REJECT:
        return ToolAnswer(call, confirmed=False, note=command.note)
    if requirement.kind is RequirementKind.EXTERNAL_EXECUTION:
        return _with_result(requirement, command)
    if command.words is not None:
        raise RequirementMismatch(f"{requirement.label} is no question: only questions are answered in words")
    if command.result is not None:
        raise RequirementMismatch(f"{requirement.label} is run by the server: it takes no result")
    changes, values = command.arguments or {}, command.values or {}
    if requirement.kind is RequirementKind.CONFIRMATION:
        if command.verb is Verb.ANSWER:
            raise RequirementMismatch(f"{requirement.label} needs a confirmation: approve or reject it")
        return ToolAnswer(
            call, tool_args={**requirement.tool_args, **changes, **values}, confirmed=True, note=command.note
        )
    return ToolAnswer(
        call, tool_args={**requirement.tool_args, **changes}, values=values, confirmed=True, note=command.note
    )


def _with_result(requirement: Requirement, command: DecideRequirement) -> ToolAnswer:
    if command.values or command.arguments:
        raise RequirementMismatch(f"{requirement.label} has no form: it takes a result")
    if command.words is not None and not requirement.question:
        raise RequirementMismatch(f"{requirement.label} is no question: only questions are answered in words")
    result = command.result if command.words is None else command.words
    if result is None:
        needs = "an answer in words" if requirement.question else "its result"
        raise RequirementMismatch(f"{requirement.label} needs {needs}")
    return ToolAnswer(requirement.tool_call_id, result=result, note=command.note)


def _resolution_data(command: DecideRequirement) -> dict[str, Any] | None:
    """Return what comes with the decision of an approval, as AgentOS's route to resolve it has it."""
    sent = {"note": command.note, "values": command.values, "tool_args": command.arguments, "result": command.result}
    return {key: value for key, value in sent.items() if value is not None} or None


def _is_same(requirement: Requirement, answer: Answer, principal: Principal, command: DecideRequirement) -> bool:
    """Whether the answer is what the command would make of it, by the same person."""
    if requirement.kind is RequirementKind.CONFIRMATION and command.verb is Verb.ANSWER:
        return False
    sent = ToolAnswer(
        requirement.tool_call_id,
        tool_args=command.arguments,
        confirmed=command.verb is not Verb.REJECT,
        note=command.note,
        values=command.values,
        result=command.result if command.words is None else command.words,
    )
    return answer.by == principal.user_id and is_repeat(requirement, answer, sent)


def _too_late(request: Request) -> AlreadyDecided:
    """Return the conflict that tells who was first, when, with which decision."""
    answer = request.requirement.answer
    call = request.requirement.label
    if answer is None:
        return AlreadyDecided(f"{call} cannot be decided any more: {request.status.value}", {"decision": None})
    by = "nobody in time" if request.status is RequirementStatus.EXPIRED else answer.by or "somebody"
    first = {
        "decision": _VERBS[answer.decision].value,
        "by": answer.by,
        "at": answer.at.isoformat().replace("+00:00", "Z"),
        "note": answer.note,
        "via": answer.via,
    }
    return AlreadyDecided(f"{call} was already {_PAST[answer.decision]} by {by}", {"decision": first})
