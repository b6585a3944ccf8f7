"""What Pydantic AI's deferred calls wait for, in the server's words."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from unpause.agents.driver import Wanted
from unpause.agents.policy import ToolPolicy
from unpause.domain.deciders import Deciders
from unpause.domain.requirements import InputField, OnExpire, RequirementKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_ai.messages import ToolCallPart
    from pydantic_ai.tools import DeferredToolRequests, ToolDefinition

_FIELD_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}


def wanted_by(requests: DeferredToolRequests, tools: Mapping[str, ToolDefinition]) -> tuple[Wanted, ...]:
    """Return what each call waits for; ``tools`` are the definitions as their authors wrote them."""
    approvals = [_decision(call, tools.get(call.tool_name)) for call in requests.approvals]
    results = [_result(call, tools.get(call.tool_name), requests) for call in requests.calls]
    return (*approvals, *results)


def _decision(call: ToolCallPart, tool: ToolDefinition | None) -> Wanted:
    rules = ToolPolicy.of(tool.metadata if tool else None)
    if tool is None or not rules.user_input:
        return _wanted(call, RequirementKind.CONFIRMATION, rules)
    fields = _fields(tool, rules, call.args_as_dict())
    return replace(_wanted(call, RequirementKind.USER_INPUT, rules), fields=fields)


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


def _fields(tool: ToolDefinition, rules: ToolPolicy, arguments: Mapping[str, Any]) -> tuple[InputField, ...]:
    schema = tool.parameters_json_schema
    required = schema.get("required", ())
    return tuple(
        InputField(
            name=name,
            field_type=_field_type(of),
            description=of.get("description", ""),
            # What the model put into a field it was never shown is no answer of the user.
            value=None if name in rules.user_input else arguments.get(name),
            open=name in rules.user_input,
            required=name in required,
        )
        for name, of in schema.get("properties", {}).items()
    )


def _field_type(schema: Mapping[str, Any]) -> str:
    options = [schema, *schema.get("anyOf", ())]
    found = (_FIELD_TYPES.get(str(option.get("type"))) for option in options)
    return next((name for name in found if name is not None), "dict" if "$ref" in schema else "str")
