"""What an OpenAPI document says, without its prose: operations and schemas as plain facts that can be compared.

A type is written as one text: `integer`, `string | null`, `list[ValidationError]`, `"API" | "CHAT"`, a schema's name,
or `any` where nothing is said.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

from pydantic import BaseModel

ANY: Final = "any"

_SCHEMAS: Final = "#/components/schemas/"
_METHODS: Final = frozenset({"delete", "get", "patch", "post", "put"})

Json: TypeAlias = "dict[str, Any]"


class Parameter(BaseModel):
    """A parameter of an operation; `place` is path, query or header."""

    name: str
    place: str
    required: bool
    type: str
    default: Any = None


class Operation(BaseModel):
    """An operation; bodies and responses are types by media type, and by status and media type.

    ``security`` are the names of the schemes of which each is enough.
    """

    operation_id: str
    parameters: list[Parameter]
    body: dict[str, str] = {}
    responses: dict[str, dict[str, str]]
    security: list[str] = []


class Schema(BaseModel):
    """A schema: an object with properties, or what `type` says."""

    type: str
    properties: dict[str, str] = {}
    required: list[str] = []
    defaults: dict[str, Any] = {}


class Facts(BaseModel):
    """Operations by `METHOD path`, and schemas by name."""

    operations: dict[str, Operation]
    schemas: dict[str, Schema]


def facts_of(document: Json) -> Facts:
    """Return what the document says."""
    operations = {
        f"{method.upper()} {path}": _operation(item[method])
        for path, item in document["paths"].items()
        for method in item
        if method in _METHODS
    }
    schemas = document["components"]["schemas"]
    return Facts(operations=operations, schemas={name: _schema(schema) for name, schema in schemas.items()})


def type_of(schema: Json) -> str:
    """Return the type that the schema says; limits of length and range are none of it."""
    match schema:
        case {"$ref": name}:
            return str(name).removeprefix(_SCHEMAS)
        case {"anyOf": parts}:
            return " | ".join(dict.fromkeys(type_of(part) for part in parts))
        case {"enum": values}:
            return " | ".join(map(json.dumps, values))
        case {"type": "array"}:
            return f"list[{type_of(schema.get('items', {}))}]"
        case {"type": name}:
            return str(name)
        case _:
            return ANY


def _operation(operation: Json) -> Operation:
    return Operation(
        operation_id=operation["operationId"],
        parameters=[_parameter(each) for each in operation.get("parameters", [])],
        body=_types(operation.get("requestBody", {})),
        responses={status: _types(response) for status, response in operation["responses"].items()},
        security=[name for scheme in operation.get("security", []) for name in scheme],
    )


def _parameter(parameter: Json) -> Parameter:
    schema = parameter["schema"]
    return Parameter(
        name=parameter["name"],
        place=parameter["in"],
        required=parameter["required"],
        type=type_of(schema),
        default=schema.get("default"),
    )


def _schema(schema: Json) -> Schema:
    properties = schema.get("properties", {})
    return Schema(
        type=type_of(schema),
        properties={name: type_of(each) for name, each in properties.items()},
        required=schema.get("required", []),
        defaults={name: each["default"] for name, each in properties.items() if each.get("default") is not None},
    )


def _types(message: Json) -> dict[str, str]:
    return {media: type_of(content.get("schema", {})) for media, content in message.get("content", {}).items()}
