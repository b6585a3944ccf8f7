"""Lists and resolves approvals: an administrator's decision becomes the answer that nobody can overrule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unpause.domain.approvals import Approval, ApprovalFilter, ApprovalStatus
from unpause.domain.arguments import is_echo
from unpause.domain.audit import AuditAction
from unpause.domain.explanations import awaiting_text
from unpause.domain.paging import Page
from unpause.domain.principal import Visibility
from unpause.domain.requirements import Answer, Decision, RequirementKind, ToolAnswer, match_answers
from unpause.domain.runs import RunRef, RunStatus
from unpause.domain.storable import refuse_unstorable
from unpause.errors import AlreadyResolved, ApprovalNotFound, RequirementMismatch, RequirementsOpen, busy_with
from unpause.services.commands import Resolved
from unpause.services.deadlines import announce, bring_up_to_date
from unpause.services.decisions import Decisions, answer_of
from unpause.services.idempotency import find_repeated
from unpause.services.value_checks import write_checked
from unpause.store.approvals import delete_approval, find_approval, list_approvals, resolve
from unpause.store.idempotency import forget_request
from unpause.store.requirements import add_answer, find_requirements, list_requirements, note_change
from unpause.store.runs import append_to_log, find_run
from unpause.webhooks.outbox import enqueue_decision

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.domain.idempotency import RequestKey
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run
    from unpause.errors import Conflict
    from unpause.services.commands import ResolveApproval
    from unpause.services.context import ServiceContext
    from unpause.services.deadlines import LockedRun
    from unpause.services.value_checks import ValueChecks
    from unpause.store.engine.database import Connection

# The keys under which clients send a note with a decision; these and `tool_args` are no fields of a form.
_NOTES = ("note", "reason", "message")
_NO_FIELDS = (*_NOTES, "tool_args")

_DELETED = "The approval was deleted by an administrator"


class ApprovalService:
    """The use cases of approvals."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def list_approvals(
        self, principal: Principal, filters: ApprovalFilter, page: Page
    ) -> tuple[list[tuple[Approval, Requirement]], int]:
        """Return one page, newest first, each with the requirement it decides, and how many there are in all."""

        def unit(connection: Connection) -> tuple[list[tuple[Approval, Requirement]], int]:
            found, total = list_approvals(connection, principal.visibility_of_approvals, filters, page)
            by_id = find_requirements(connection, [approval.id for approval in found])
            # Without those that were deleted a moment ago.
            return [(approval, by_id[approval.id]) for approval in found if approval.id in by_id], total

        return await self._context.database.read(unit)

    async def get_approval(self, principal: Principal, approval_id: str) -> tuple[Approval, Requirement]:
        """Return the approval and the requirement it decides; raise ApprovalNotFound."""
        return await self._context.database.read(
            lambda connection: _with_requirement(connection, principal, approval_id)
        )

    async def resolve_approval(
        self, principal: Principal, command: ResolveApproval, request_key: RequestKey | None = None
    ) -> Resolved:
        """Decide a pending approval, once; a repeated key returns the approval as it is, with the earlier answer.

        Raises ApprovalNotFound, AlreadyResolved, RequirementMismatch, InvalidInput or IdempotencyMismatch.

        The run stays paused until somebody continues it. A yes to a call that also needs values or a result leaves
        those to the continue, unless they come with it; with values that come later the call is approved again,
        as it is then.
        """
        refuse_unstorable(command, principal.user_id)
        self._context.limits.refuse_json({"resolution_data": command.data})

        def unit(connection: Connection, checks: ValueChecks) -> tuple[Resolved | Conflict, LockedRun | None]:
            now = self._context.clock.now()
            approval = _get(connection, principal, command.approval_id)
            earlier = find_repeated(connection, request_key, now)
            if earlier is not None:
                return Resolved(*_with_requirement(connection, principal, approval.id), answer=earlier.answer), None
            # Two who decide at once must see one another.
            locked = bring_up_to_date(connection, _lock_run(connection, principal, approval), now)
            approval = _get(connection, principal, command.approval_id)
            if approval.status is not ApprovalStatus.PENDING:
                if request_key is not None:
                    forget_request(connection, request_key)
                return _already(approval), locked
            with Decisions(connection, locked.run, principal, locked.now) as decisions:
                resolve_pending(decisions, approval, command, checks)
            return Resolved(*_with_requirement(connection, principal, approval.id)), locked

        def committed(found: tuple[Resolved | Conflict, LockedRun | None]) -> None:
            if found[1] is not None:
                announce(found[1], self._context.bus, self._context.dispatcher)

        with busy_with(f"The run of approval {command.approval_id}"):
            outcome, _ = await write_checked(self._context.database, self._context.agents, unit, committed)
        if isinstance(outcome, Resolved):
            return outcome
        raise outcome

    async def delete_approval(self, principal: Principal, approval_id: str) -> None:
        """Remove the record; a call that still waits is declined. Raises ApprovalNotFound, or NotADecider for that."""

        def unit(connection: Connection) -> LockedRun:
            approval = _get(connection, principal, approval_id)
            # Somebody may decide it at this moment.
            locked = bring_up_to_date(connection, _lock_run(connection, principal, approval), self._context.clock.now())
            requirement = _requirement(connection, _get(connection, principal, approval_id).id)
            with Decisions(connection, locked.run, principal, locked.now) as decisions:
                if requirement.is_open and locked.run.status is RunStatus.PAUSED:
                    # Without its record nobody could decide the call any more, so its deletion is a no.
                    decisions.vote(requirement, Decision.REJECTED, _DELETED)
                    rejection = ToolAnswer(requirement.tool_call_id, confirmed=False, note=_DELETED)
                    answer = answer_of(requirement, rejection, principal, locked.now)
                    add_answer(connection, requirement.id, answer)
                    decisions.record(AuditAction.APPROVAL_DELETED, requirement, answer.decision, answer.note)
                    enqueue_decision(connection, locked.run, requirement, answer)
                else:
                    decisions.record(AuditAction.APPROVAL_DELETED, requirement)
                delete_approval(connection, approval_id)
            return locked

        with busy_with(f"The run of approval {approval_id}"):
            bus, dispatcher = self._context.bus, self._context.dispatcher
            await self._context.database.write(unit, lambda locked: announce(locked, bus, dispatcher))


def _lock_run(connection: Connection, principal: Principal, approval: Approval) -> Run:
    run = find_run(connection, Visibility(principal.organization_id), RunRef(id=approval.run_key), locked=True)
    if run is None:
        # It was deleted, with its approvals.
        raise ApprovalNotFound
    return run


def _get(connection: Connection, principal: Principal, approval_id: str) -> Approval:
    approval = find_approval(connection, principal.visibility_of_approvals, approval_id)
    if approval is None:
        raise ApprovalNotFound
    return approval


def _with_requirement(connection: Connection, principal: Principal, approval_id: str) -> tuple[Approval, Requirement]:
    approval = _get(connection, principal, approval_id)
    return approval, _requirement(connection, approval.id)


def _requirement(connection: Connection, approval_id: str) -> Requirement:
    # An approval has the id of what it decides, and never outlives it.
    found = find_requirements(connection, [approval_id]).get(approval_id)
    if found is None:
        raise ApprovalNotFound
    return found


def _already(approval: Approval) -> AlreadyResolved:
    moment: datetime | None = approval.resolved_at
    details = {"resolved_by": approval.resolved_by, "resolved_at": moment.isoformat() if moment else None}
    return AlreadyResolved(approval.status.value, {key: value for key, value in details.items() if value is not None})


def resolve_pending(decisions: Decisions, approval: Approval, command: ResolveApproval, checks: ValueChecks) -> None:
    """Count the vote; when it decides, resolve the approval and make it the answer to the requirement."""
    connection, run, now = decisions.connection, decisions.run, decisions.now
    requirement = _requirement(connection, approval.id)
    sent, note = replace(_tool_answer(requirement, command), remember=command.remember), _note(command)
    decision = Decision.CONFIRMED if command.approved else Decision.REJECTED
    voted, is_decided = decisions.vote(requirement, decision, note)
    if not is_decided:
        if sent.remember is not None:
            raise RequirementMismatch(f"{requirement.tool_name} needs more people: the last one can have it remembered")
        _update_awaiting(decisions, voted)
        return
    status = ApprovalStatus.APPROVED if command.approved else ApprovalStatus.REJECTED
    changes = {"resolved_by": decisions.principal.user_id, "resolved_at": now, "resolution_data": command.data}
    resolve(connection, approval.id, status, {**changes, "updated_at": now})
    answer = _answer(decisions, requirement, sent, checks) if run.status is RunStatus.PAUSED else None
    if answer is None:
        note_change(connection, requirement.id, now)
    else:
        add_answer(connection, requirement.id, answer)
    decisions.record(AuditAction.RESOLVED, requirement, decision, note, answer.values if answer else None)
    if answer is not None:
        decisions.remember(requirement, answer)
    elif sent.remember is not None:
        raise RequirementMismatch(f"{requirement.tool_name} waits for more than an approval: nothing can be remembered")
    made = Answer(decision, now, note=note, by=decisions.principal.user_id, via=decisions.principal.via)
    enqueue_decision(connection, run, voted, made)


def _update_awaiting(decisions: Decisions, voted: Requirement) -> None:
    """Add the votes so far to the text of what the run waits for."""
    connection, run = decisions.connection, decisions.run
    requirements = [voted if item.id == voted.id else item for item in list_requirements(connection, run.id)]
    present = [item for item in requirements if item.pause_id == run.pause_id]
    append_to_log(connection, run.id, 0, decisions.now, {"awaiting": awaiting_text(present)})


def _answer(decisions: Decisions, requirement: Requirement, sent: ToolAnswer, checks: ValueChecks) -> Answer | None:
    """Return the decision as the requirement's answer; None for a yes to a call that also needs something else."""
    try:
        matched = match_answers([requirement], [sent], frozenset({requirement.tool_call_id}))
    except RequirementsOpen:
        return None
    for fitting in matched.values():
        checked = checks.take(decisions.run, requirement, fitting)
        answer = answer_of(requirement, checked, decisions.principal, decisions.now)
        if requirement.kind is RequirementKind.USER_INPUT and answer.decision is Decision.ANSWERED:
            # Not only filled in: the approver has seen all of the call.
            return replace(answer, decision=Decision.CONFIRMED)
        return answer
    return None


def _tool_answer(requirement: Requirement, command: ResolveApproval) -> ToolAnswer:
    """Return the decision as a continue would send it.

    ``resolution_data`` brings ``values`` for what is to be filled in or may be changed, ``tool_args`` for the latter,
    and the ``result`` of a call that is run elsewhere.
    """
    data, note = command.data or {}, _note(command)
    call = requirement.tool_call_id
    if not command.approved:
        return ToolAnswer(call, confirmed=False, note=note)
    if requirement.kind is RequirementKind.EXTERNAL_EXECUTION:
        result = data.get("result")
        if result is not None:
            _refuse_of_several(requirement, "its result comes when the run is continued")
        return ToolAnswer(call, note=note, result=None if result is None else str(result))
    changes = _mapping(data, "tool_args")
    if requirement.kind is RequirementKind.CONFIRMATION:
        changes |= _mapping(data, "values")
        if changes:
            _refuse_of_several(requirement, "nobody changes it alone")
        return ToolAnswer(call, tool_args={**requirement.tool_args, **changes}, confirmed=True, note=note)
    names = {field.name for field in requirement.fields}
    plain = {key: value for key, value in data.items() if key in names or key not in _NO_FIELDS}
    values = _mapping(data, "values") if "values" in data else plain
    shown = requirement.tool_args
    edited = [name for name in requirement.editable if not is_echo(values.get(name, shown.get(name)), shown.get(name))]
    # All of the form, or nothing of it: what was changed would be decided without the rest.
    needs_values = any(field.open and field.required for field in requirement.fields)
    is_whole = bool(changes or edited) or ("values" in data and not needs_values)
    confirmed = True if is_whole else None
    return ToolAnswer(call, tool_args={**shown, **changes}, values=values, confirmed=confirmed, note=note)


def _mapping(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key) or {}
    if not isinstance(value, Mapping):
        raise RequirementMismatch(f"resolution_data: {key} must be an object")
    return dict(value)


def _refuse_of_several(requirement: Requirement, why: str) -> None:
    if requirement.deciders is not None and requirement.deciders.quorum > 1:
        raise RequirementMismatch(f"{requirement.tool_name} needs several people: {why}")


def _note(command: ResolveApproval) -> str | None:
    """Return the note that came with the decision, under any of the keys that clients use."""
    data = command.data or {}
    return next((str(data[key]) for key in _NOTES if data.get(key)), None)
