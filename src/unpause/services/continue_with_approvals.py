"""A continue that also resolves approvals: an administrator's answers decide them first, in the same transaction."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unpause.domain.arguments import is_echo
from unpause.domain.principal import Visibility
from unpause.errors import ApprovalNotFound
from unpause.services.approvals import resolve_pending
from unpause.services.commands import ResolveApproval
from unpause.services.decisions import Decisions
from unpause.store.approvals import find_approval
from unpause.store.requirements import list_requirements

if TYPE_CHECKING:
    from unpause.domain.events import Event
    from unpause.domain.requirements import Requirement, ToolAnswer
    from unpause.services.commands import Accepted
    from unpause.services.continue_run import ContinueHandler


def continue_approving(handler: ContinueHandler) -> tuple[Accepted, tuple[Event, ...]]:
    """Do what ``handler.apply`` does, after its answers have decided the approvals that are pending.

    Where the caller may decide none, the continue is refused as it would be without. Where a vote does not decide one,
    the run stays paused.
    """
    pending = {item.tool_call_id: item for item in handler.present if item.awaits_approval}
    if not pending or not handler.principal.may("approvals:write"):
        return handler.apply()
    sent = {answer.tool_call_id: answer for answer in handler.command.answers}
    with Decisions(handler.connection, handler.run, handler.principal, handler.now) as decisions:
        for key, requirement in pending.items():
            if key in sent:
                _resolve(decisions, requirement, sent[key], handler)
    requirements = list_requirements(handler.connection, handler.run.id)
    decided = {item.tool_call_id for item in requirements if item.id in {each.id for each in pending.values()}}
    still_open = {item.tool_call_id for item in requirements if item.is_open}
    # What an approval does not bring, such as the result of a call that is run elsewhere, comes with the continue.
    rest = tuple(answer for key, answer in sent.items() if key not in decided or key in still_open)
    left = replace(handler, requirements=requirements, command=replace(handler.command, answers=rest))
    if any(item.awaits_approval for item in left.present):
        return left.decide({})
    return left.apply()


def _resolve(decisions: Decisions, requirement: Requirement, answer: ToolAnswer, handler: ContinueHandler) -> None:
    approval = find_approval(decisions.connection, Visibility(decisions.run.organization_id), requirement.id)
    if approval is None:
        raise ApprovalNotFound
    shown = requirement.tool_args
    edited = {name: value for name, value in (answer.tool_args or {}).items() if not is_echo(value, shown.get(name))}
    sent = {"note": answer.note, "values": answer.values, "tool_args": edited or None, "result": answer.result}
    data = {name: value for name, value in sent.items() if value is not None} or None
    command = ResolveApproval(approval.id, approved=answer.confirmed is not False, data=data)
    resolve_pending(decisions, approval, command, handler.checks)
