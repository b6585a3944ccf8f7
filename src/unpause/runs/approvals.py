"""Lists and resolves approvals: what an administrator decides becomes the answer that nobody can overrule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unpause.domain.approvals import Approval, ApprovalFilter, ApprovalStatus, Page
from unpause.domain.requirements import RequirementKind, ToolAnswer, match_answers
from unpause.domain.runs import RunStatus
from unpause.domain.text import refuse_nul
from unpause.errors import AlreadyResolved, ApprovalNotFound, RequirementsOpen
from unpause.runs.commands import ContinueRun, Resolved
from unpause.runs.continuing import Continuing
from unpause.runs.repeating import find_repeated
from unpause.store.approvals import delete_approval, find_approval, list_approvals, resolve
from unpause.store.requirements import add_answer, find_requirements, list_requirements
from unpause.store.runs import RunKey, get_run

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Answer, Requirement
    from unpause.runs.commands import ResolveApproval
    from unpause.runs.service import ServiceTools
    from unpause.store.database import Connection
    from unpause.store.idempotency import RequestKey

_DELETED = "The approval was deleted by an administrator"


class ApprovalService:
    """The use cases of approvals."""

    def __init__(self, tools: ServiceTools) -> None:
        self._tools = tools

    async def list_approvals(
        self, principal: Principal, wanted: ApprovalFilter, page: Page
    ) -> tuple[list[tuple[Approval, Requirement | None]], int]:
        """Return one page, newest first, each with the requirement it decides, and how many there are in all."""

        def unit(connection: Connection) -> tuple[list[tuple[Approval, Requirement | None]], int]:
            found, total = list_approvals(connection, principal.organization_id, wanted, page)
            by_id = find_requirements(connection, [approval.id for approval in found])
            return [(approval, by_id.get(approval.id)) for approval in found], total

        return await self._tools.database.read(unit)

    async def get_approval(self, principal: Principal, approval_id: str) -> tuple[Approval, Requirement | None]:
        """Return the approval and the requirement it decides; raise ApprovalNotFound."""
        return await self._tools.database.read(lambda connection: _with_requirement(connection, principal, approval_id))

    async def resolve_approval(
        self, principal: Principal, command: ResolveApproval, asked: RequestKey | None = None
    ) -> Resolved:
        """Decide a pending approval, once; with a key that decided it before, return it as it is and was answered.

        Raises ApprovalNotFound, AlreadyResolved, RequirementMismatch, InvalidInput or IdempotencyMismatch.

        The run stays paused until somebody continues it. A yes to a call that also needs values or a result leaves
        those to whoever continues, unless they come with it.
        """
        refuse_nul(command)
        now = self._tools.clock.now()

        def unit(connection: Connection) -> Resolved:
            approval = _get(connection, principal, command.approval_id)
            earlier = find_repeated(connection, asked, now)
            if earlier is not None:
                return Resolved(*_with_requirement(connection, principal, approval.id), answer=earlier.answer)
            status = ApprovalStatus.APPROVED if command.approved else ApprovalStatus.REJECTED
            changes = {
                "resolved_by": command.resolved_by,
                "resolved_at": now,
                "resolution_data": command.data,
                "updated_at": now,
            }
            if not resolve(connection, approval.id, status, changes):
                raise _already(approval)
            run = get_run(connection, RunKey(principal.organization_id, id=approval.run_key))
            if run.status is RunStatus.PAUSED:
                decider = replace(principal, user_id=command.resolved_by)
                _decide(connection, approval, command, Continuing(decider, ContinueRun(), now))
            return Resolved(*_with_requirement(connection, principal, approval.id))

        return await self._tools.database.write(unit)

    async def delete_approval(self, principal: Principal, approval_id: str) -> None:
        """Remove the record; a call that still waits for it is declined. Raises ApprovalNotFound."""
        now = self._tools.clock.now()

        def unit(connection: Connection) -> None:
            approval = _get(connection, principal, approval_id)
            if approval.status is ApprovalStatus.PENDING:
                continuing = Continuing(principal, ContinueRun(), now)
                requirement = _requirement(connection, approval)
                said = ToolAnswer(requirement.tool_call_id, confirmed=False, note=_DELETED)
                add_answer(connection, requirement.id, continuing.answer(requirement, said))
            delete_approval(connection, approval_id)

        await self._tools.database.write(unit)


def _get(connection: Connection, principal: Principal, approval_id: str) -> Approval:
    approval = find_approval(connection, principal.organization_id, approval_id)
    if approval is None:
        raise ApprovalNotFound
    return approval


def _with_requirement(
    connection: Connection, principal: Principal, approval_id: str
) -> tuple[Approval, Requirement | None]:
    approval = _get(connection, principal, approval_id)
    found = [item for item in list_requirements(connection, approval.run_key) if item.id == approval_id]
    return approval, found[0] if found else None


def _requirement(connection: Connection, approval: Approval) -> Requirement:
    return next(item for item in list_requirements(connection, approval.run_key) if item.id == approval.id)


def _already(approval: Approval) -> AlreadyResolved:
    moment: datetime | None = approval.resolved_at
    details = {"resolved_by": approval.resolved_by, "resolved_at": moment.isoformat() if moment else None}
    return AlreadyResolved(approval.status.value, {key: value for key, value in details.items() if value is not None})


def _decide(connection: Connection, approval: Approval, command: ResolveApproval, continuing: Continuing) -> None:
    """Make the decision the answer to the requirement, where it is one."""
    requirement = _requirement(connection, approval)
    said = _said(requirement, command)
    try:
        matched = match_answers([requirement], [said], frozenset({requirement.tool_call_id}))
    except RequirementsOpen:
        return
    answers: dict[str, Answer] = {key: continuing.answer(requirement, answer) for key, answer in matched.items()}
    for requirement_id, answer in answers.items():
        add_answer(connection, requirement_id, answer)


def _said(requirement: Requirement, command: ResolveApproval) -> ToolAnswer:
    """Return the decision in the words of a continue (``resolution_data``: agno.md section 8)."""
    data = command.data or {}
    if not command.approved:
        note = next((str(data[key]) for key in ("note", "reason", "message") if data.get(key)), None)
        return ToolAnswer(requirement.tool_call_id, confirmed=False, note=note)
    match requirement.kind:
        case RequirementKind.CONFIRMATION:
            return ToolAnswer(requirement.tool_call_id, confirmed=True)
        case RequirementKind.USER_INPUT:
            values: Any = data.get("values", data)
            return ToolAnswer(requirement.tool_call_id, values=values if isinstance(values, Mapping) else None)
        case RequirementKind.EXTERNAL_EXECUTION:
            result = data.get("result")
            return ToolAnswer(requirement.tool_call_id, result=None if result is None else str(result))
