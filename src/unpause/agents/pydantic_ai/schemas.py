"""JSON schemas of tools' parameters, as forms need them: one complete schema for each parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from pydantic_ai.tools import ToolDefinition

Schema: TypeAlias = dict[str, Any]

_DEFINITIONS: Final = "#/$defs/"
_FIELD_TYPES: Final = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "array": "list",
    "object": "dict",
}
_VALUE_TYPES: Final = ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"), (list, "list"), (dict, "dict"))


def parameters_schema(definition: ToolDefinition) -> Schema:
    """Return the schema of the tool's parameters with its properties at the top level.

    The one of a function that takes a single model may stand among the definitions, where the model refers to itself.
    """
    schema = definition.parameters_json_schema
    return _resolved(schema, schema.get("$defs", {}))


def parameters_of(definition: ToolDefinition) -> Mapping[str, Schema]:
    """Return the schemas of the tool's parameters by their names."""
    properties: Mapping[str, Schema] = parameters_schema(definition).get("properties", {})
    return properties


def hide_parameters(definition: ToolDefinition, names: Sequence[str]) -> Schema:
    """Return the schema of the tool's parameters without these: those which the user fills in."""
    if not names:
        return dict(definition.parameters_json_schema)
    whole = parameters_schema(definition)
    definitions = whole.pop("$defs", {})
    whole["properties"] = {name: of for name, of in whole.get("properties", {}).items() if name not in names}
    whole["required"] = [name for name in whole.get("required", ()) if name not in names]
    return _with_definitions(whole, definitions)


def standalone(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema of a parameter with all that it refers to.

    What it is, or may be, stands in it directly, so that a simple form finds the choices; what is deeper is among its
    own ``$defs``.
    """
    whole = _resolved(schema, definitions)
    for word in ("anyOf", "oneOf", "allOf"):
        if word in whole:
            whole[word] = [_resolved(option, definitions) for option in whole[word]]
    whole.pop("$defs", None)
    return _with_definitions(whole, definitions)


def field_type(schema: Schema) -> str:
    """Return AgentOS's name for the type of a standalone schema; of a union that of its first member."""
    for option in _options(schema):
        name = option.get("type")
        if isinstance(name, list):
            name = next((each for each in name if each != "null"), None)
        if name in _FIELD_TYPES:
            return _FIELD_TYPES[str(name)]
        values = [*option.get("enum", ()), *([option["const"]] if "const" in option else ())]
        found = {_type_of(value) for value in values if value is not None}
        if len(found) == 1:
            return found.pop()
        if "properties" in option:
            return "dict"
    return "str"


def property_names(schema: object) -> Iterator[str]:
    """Yield the names of all properties of objects anywhere in the schema."""
    if isinstance(schema, Mapping):
        properties = schema.get("properties")
        if isinstance(properties, Mapping):
            yield from properties
        for inner in schema.values():
            yield from property_names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from property_names(inner)


def _options(schema: Schema) -> Iterator[Schema]:
    yield schema
    for word in ("anyOf", "oneOf", "allOf"):
        yield from schema.get(word, ())


def _type_of(value: object) -> str:
    return next((name for kind, name in _VALUE_TYPES if isinstance(value, kind)), "str")


def _resolved(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema with its own reference resolved; keywords beside the reference win."""
    seen: set[str] = set()
    whole = dict(schema)
    while isinstance(name := whole.get("$ref"), str) and name.startswith(_DEFINITIONS) and name not in seen:
        seen.add(name)
        del whole["$ref"]
        whole = {**definitions.get(name.removeprefix(_DEFINITIONS), {}), **whole}
    return whole


def _with_definitions(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """Return the schema with those of the definitions that something in it refers to."""
    needed: dict[str, Schema] = {}
    waiting = list(_references(schema))
    while waiting:
        name = waiting.pop()
        if name not in needed and name in definitions:
            needed[name] = definitions[name]
            waiting.extend(_references(definitions[name]))
    return {**schema, "$defs": needed} if needed else schema


def _references(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str) and reference.startswith(_DEFINITIONS):
            yield reference.removeprefix(_DEFINITIONS)
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
