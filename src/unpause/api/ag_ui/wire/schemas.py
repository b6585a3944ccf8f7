"""What AG-UI's routes take and send, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from ag_ui.core import Event as AnyEvent
from ag_ui.core import RunAgentInput
from pydantic import RootModel
from pydantic.json_schema import models_json_schema

# Some of the protocol's models have the names of AgentOS's.
_PREFIX = "AgUi"


class Event(RootModel[AnyEvent]):
    """An event of AG-UI 1.0."""


def list_schemas() -> dict[str, Any]:
    """Return the schemas of AG-UI's models by name, each with a prefix.

    Its title has the prefix, too: generators of SDKs name classes by it.
    """
    template = f"#/components/schemas/{_PREFIX}{{model}}"
    _, written = models_json_schema([(Event, "validation"), (RunAgentInput, "validation")], ref_template=template)
    return {
        f"{_PREFIX}{name}": {**_without_redundant_unions(schema), "title": f"{_PREFIX}{name}"}
        for name, schema in written["$defs"].items()
    }


def _without_redundant_unions(schema: Any) -> Any:  # noqa: ANN401 - a JSON schema, or a part of one
    """Return the schema with "anything" in place of "anything or null", which openapi-generator cannot name."""
    if isinstance(schema, list):
        return [_without_redundant_unions(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    is_vain = {} in schema.get("anyOf", ())
    return {name: _without_redundant_unions(part) for name, part in schema.items() if not (is_vain and name == "anyOf")}
