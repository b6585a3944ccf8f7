"""What Pydantic AI's deferred calls wait for, in the server's words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unpause.agents.driver import Wanted
from unpause.agents.policy import ToolPolicy
from unpause.agents.pydantic_ai.forms import fields_of
from unpause.domain.deciders import Deciders
from unpause.domain.requirements import OnExpire, RequirementKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_ai.messages import ToolCallPart
    from pydantic_ai.tools import DeferredToolRequests, ToolDefinition


def wanted_by(requests: DeferredToolRequests, tools: Mapping[str, ToolDefinition]) -> tuple[Wanted, ...]:
    """Return what each call waits for; ``tools`` are the definitions as their authors wrote them."""
    approvals = [_decision(call, tools.get(call.tool_name)) for call in requests.approvals]
    results = [_result(call, tools.get(call.tool_name), requests) for call in requests.calls]
    return (*approvals, *results)


def _decision(call: ToolCallPart, tool: ToolDefinition | None) -> Wanted:
    rules = ToolPolicy.of(tool.metadata if tool else None)
    if tool is None:
        return _wanted(call, RequirementKind.CONFIRMATION, rules)
    kind = RequirementKind.USER_INPUT if rules.user_input else RequirementKind.CONFIRMATION
    return replace(_wanted(call, kind, rules), fields=fields_of(tool, rules, call.args_as_dict()))


def _result(call: ToolCallPart, tool: ToolDefinition | None, requests: DeferredToolRequests) -> Wanted:
    rules = ToolPolicy.of(tool.metadata if tool else None).elsewhere
    question = requests.kind(call.tool_call_id) == "question"
    return replace(_wanted(call, RequirementKind.EXTERNAL_EXECUTION, rules), question=question)


def _wanted(call: ToolCallPart, kind: RequirementKind, rules: ToolPolicy) -> Wanted:
    return Wanted(
        call.tool_call_id,
        kind,
        editable=rules.editable,
        approval=rules.approval,
        expires_in=rules.expires_in,
        on_expire=OnExpire(rules.on_expire) if rules.on_expire else None,
        deciders=_deciders(rules),
    )


def _deciders(rules: ToolPolicy) -> Deciders | None:
    deciders = Deciders(rules.four_eyes, rules.approvers, rules.quorum)
    return None if deciders == Deciders() else deciders
