"""Completes the OpenAPI document with what FastAPI does not know: the models, examples, and what is inside of forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from unpause.api.agentos.wire import responses
from unpause.api.agentos.wire.examples import add_examples
from unpause.api.agentos.wire.models import approvals, config, events, requests, runs, sessions
from unpause.api.agentos.wire.models.base import PaginatedResponse, WireSchema
from unpause.api.answers import ref
from unpause.api.audit_json import AuditEntryResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RESPONSES: tuple[type[BaseModel], ...] = (
    approvals.ApprovalCountResponse,
    approvals.ApprovalResponse,
    approvals.ApprovalStatusResponse,
    PaginatedResponse[approvals.ApprovalResponse],
    PaginatedResponse[AuditEntryResponse],
    PaginatedResponse[sessions.SessionSchema],
    config.AgentResponse,
    config.ApiInfoResponse,
    config.ConfigResponse,
    config.HealthResponse,
    config.Model,
    config.ReadyResponse,
    config.TeamResponse,
    config.NotReadyResponse,
    config.WorkflowSummaryResponse,
    events.ResumedRunEvent,
    events.RunOutputEvent,
    responses.BadRequestResponse,
    responses.ConflictResponse,
    responses.ForbiddenResponse,
    responses.InternalServerErrorResponse,
    responses.NotFoundResponse,
    responses.ServiceUnavailableResponse,
    responses.TooManyRequestsResponse,
    responses.UnauthenticatedResponse,
    responses.ValidationErrorResponse,
    runs.EmptyResponse,
    runs.RunAcceptedResponse,
    runs.RunOutput,
    runs.RunSchema,
    runs.SessionRunPreviewSchema,
    sessions.AgentSessionDetailSchema,
)
_REQUESTS: tuple[type[BaseModel], ...] = (requests.CreateAgentRunRequest, requests.ContinueAgentRunRequest)

# What the items of streams carry.
_STREAMED = ("RunOutputEvent", "ResumedRunEvent", "InboxEvent", "AgUiEvent")
# Streams whose events have no name: it is in the data.
_NAMELESS = frozenset({"AgUiEvent"})

# The JSON body with the fields of the form.
_FORMS = {
    "Body_create_agent_run": "CreateAgentRunRequest",
    "Body_continue_agent_run": "ContinueAgentRunRequest",
}


def complete(document: dict[str, Any], others: Iterable[type[BaseModel]], written: Mapping[str, Any]) -> dict[str, Any]:
    """Add the schemas that the routes name, also ``others``, and describe the fields of forms; return the document.

    Those in ``written`` are schemas already, by name.
    """
    schemas = document["components"]["schemas"]
    for name, schema in {**_model_schemas(others), **written}.items():
        schemas.setdefault(name, schema)
    for form, body in _FORMS.items():
        _describe_form(schemas[form]["properties"], schemas[body]["properties"])
    for item in document["paths"].values():
        for operation in item.values():
            _put_json_first(operation)
    add_examples(document)
    return document


def _model_schemas(others: Iterable[type[BaseModel]]) -> dict[str, Any]:
    """Return the schemas of all models by name, and those of the items of streams."""
    inputs: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        (model, "serialization") for model in (*_RESPONSES, *others)
    ]
    inputs += [(model, "validation") for model in _REQUESTS]
    template = "#/components/schemas/{model}"
    _, written = models_json_schema(inputs, ref_template=template, schema_generator=WireSchema)
    schemas: dict[str, Any] = written["$defs"]
    return {**schemas, **{f"{name}Item": _stream_item(name) for name in _STREAMED}}


def _stream_item(name: str) -> dict[str, Any]:
    """Return the schema of a server-sent event with such data."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": ref(name)}
    names: dict[str, Any] = {
        "id": {"type": "string", "description": "Of a run's event its number, from 1"},
        "event": {"type": "string", "description": "The kind of event, as in the data"},
    }
    if name in _NAMELESS:
        names = {"id": {"type": "string"}}
    return {
        "title": f"{name}Item",
        "description": "An item of the stream. To reconnect, send the last `id` as `Last-Event-ID`.",
        "type": "object",
        "properties": {**names, "data": data},
        "required": ["data"] if name in _NAMELESS else ["event", "data"],
    }


def _describe_form(form: dict[str, Any], body: dict[str, Any]) -> None:
    """Describe the form's fields as those of the JSON body; objects and arrays are JSON text in a form."""
    for name in form.keys() & body.keys():
        field, described = form[name], dict(body[name])
        if description := described.pop("description", None):
            field.setdefault("description", description)
        inner = next((part for part in described.get("anyOf", ()) if part["type"] != "null"), described)
        if inner.get("type") in {"object", "array"}:
            schema = {key: value for key, value in inner.items() if key != "title"}
            inside = {"contentMediaType": "application/json", "contentSchema": schema}
            next((part for part in field.get("anyOf", ()) if part["type"] == "string"), field).update(inside)


def _put_json_first(operation: dict[str, Any]) -> None:
    """Name the JSON body before the form: generators that know only one body take the first."""
    body = operation.get("requestBody", {})
    json = body.get("content", {}).get("application/json")
    if json is not None:
        body["content"] = {"application/json": json, **body["content"]}
