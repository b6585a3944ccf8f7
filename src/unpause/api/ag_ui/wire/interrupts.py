"""What a paused run waits for, as AG-UI's interrupts: the schema of each says what a resume may answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ag_ui.core import Interrupt, RunFinishedInterruptOutcome, RunFinishedSuccessOutcome

from unpause.api.native import moment
from unpause.domain.event_payloads import votes_payload
from unpause.domain.explanations import awaiting_text
from unpause.domain.frontends import read_frontend
from unpause.domain.requirements import RequirementKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpause.domain.forms import InputField
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run

# AG-UI's own words; others have the prefix of the framework.
TOOL_CALL = "tool_call"
INPUT_REQUIRED = "input_required"
EXTERNAL = "unpause:external_execution"
PAUSED = "unpause:paused"

_JSON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}
_NOTE = {"type": "string", "description": "For the model, and for the record of the decision"}
_APPROVED = {"type": "boolean", "description": "Whether the call may run, exactly as it was shown"}


def outcome_of(
    run: Run, pause_id: str, requirements: Iterable[Requirement]
) -> RunFinishedInterruptOutcome | RunFinishedSuccessOutcome:
    """Return how a run ends that pauses so.

    With an interrupt for each open requirement; with one of its own where nothing is open, as it waits for a continue.
    Calls of the front end's tools are no interrupts: where there is nothing else, the run is done, and names them.
    """
    waiting = [item for item in requirements if item.pause_id == pause_id and item.is_open]
    pending = [item.call_id for item in waiting if is_of_frontend(run, item)]
    interrupts = [_interrupt(item) for item in waiting if item.call_id not in pending]
    if pending and not interrupts:
        return RunFinishedSuccessOutcome(pending_tool_call_ids=pending)
    return RunFinishedInterruptOutcome(interrupts=interrupts or [_of_pause(pause_id)])


def is_of_frontend(run: Run, requirement: Requirement) -> bool:
    """Whether the requirement is the result of a tool that the client named with its request."""
    if requirement.kind is not RequirementKind.EXTERNAL_EXECUTION or requirement.question:
        return False
    return any(tool.name == requirement.tool_name for tool in read_frontend(run.frontend).tools)


def _of_pause(pause_id: str) -> Interrupt:
    """Return the interrupt of a run that waits for no decision: it was paused on request, or all are made."""
    schema = {"type": "object", "properties": {}}
    return Interrupt(id=pause_id, reason=PAUSED, message=awaiting_text([]), response_schema=schema)


def _interrupt(requirement: Requirement) -> Interrupt:
    return Interrupt(
        id=requirement.id,
        reason=_reason(requirement),
        message=awaiting_text([requirement]),
        tool_call_id=requirement.call_id,
        response_schema=_schema(requirement),
        expires_at=None if requirement.expires_at is None else moment(requirement.expires_at),
        metadata={"unpause": _details(requirement)},
    )


def _reason(requirement: Requirement) -> str:
    if requirement.kind is RequirementKind.USER_INPUT or requirement.question:
        return INPUT_REQUIRED
    return EXTERNAL if requirement.kind is RequirementKind.EXTERNAL_EXECUTION else TOOL_CALL


def _details(requirement: Requirement) -> dict[str, Any]:
    details = {
        "kind": "question" if requirement.question else requirement.kind.value,
        "toolName": requirement.tool_name,
        "toolArgs": requirement.tool_args,
        "inDoubt": requirement.in_doubt or None,
        "approval": requirement.approval,
        "metadata": requirement.metadata,
        **votes_payload(requirement),
    }
    return {name: value for name, value in details.items() if value is not None}


def _schema(requirement: Requirement) -> dict[str, Any]:
    """Return the JSON schema of the payload that resolves the requirement.

    Its definitions are at its root, where references look for them: all are those of the one tool.
    """
    schema = _payload_schema(requirement)
    definitions: dict[str, Any] = {}
    for name in ("values", "editedArgs"):
        for field in schema["properties"].get(name, {}).get("properties", {}).values():
            definitions.update(field.pop("$defs", {}))
    return {**schema, "$defs": definitions} if definitions else schema


def _payload_schema(requirement: Requirement) -> dict[str, Any]:
    properties: dict[str, Any] = {"approved": _APPROVED, "note": _NOTE}
    if requirement.kind is RequirementKind.CONFIRMATION:
        return {"type": "object", "properties": properties | _editing(requirement), "required": ["approved"]}
    if requirement.kind is RequirementKind.USER_INPUT:
        needed, own = "values", {"values": _form(requirement)}
    else:
        needed, own = "result", {"result": _result(requirement)}
    return {
        "type": "object",
        "properties": {**own, **properties, **_editing(requirement)},
        "anyOf": [{"required": [needed]}, {"properties": {"approved": {"const": False}}, "required": ["approved"]}],
    }


def _result(requirement: Requirement) -> dict[str, Any]:
    if requirement.question:
        return {"type": "string", "description": awaiting_text([requirement])}
    return {"description": f"What {requirement.tool_name} gave back, where it was run"}


def _form(requirement: Requirement) -> dict[str, Any]:
    fields = [field for field in requirement.fields if field.open]
    return {
        "type": "object",
        "properties": {field.name: _of_field(field) for field in fields},
        "required": [field.name for field in fields if field.required],
    }


def _editing(requirement: Requirement) -> dict[str, Any]:
    """Return the property with the arguments that the decider may change; none where the policy allows none."""
    names = requirement.changeable
    if not names:
        return {}
    known = {field.name: field for field in requirement.fields}
    properties = {name: _of_field(known[name]) if name in known else {} for name in names}
    description = "Arguments to run the call with; those that are left out stay as they were shown"
    return {"editedArgs": {"type": "object", "properties": properties, "description": description}}


def _of_field(field: InputField) -> dict[str, Any]:
    schema = dict(field.schema) if field.schema is not None else {"type": _JSON_TYPES.get(field.field_type, "string")}
    if field.description:
        schema.setdefault("description", field.description)
    return schema
