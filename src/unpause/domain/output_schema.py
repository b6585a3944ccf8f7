"""The JSON schema that a client requests for a run's answer: which schemas are accepted, and whether an answer fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpause.errors import InvalidOutputSchema
from unpause.lazy import LazyModule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jsonschema_rs import Validator

    from unpause.domain import json_schema
else:
    json_schema = LazyModule("unpause.domain.json_schema")

# AgentOS's names for a schema without a title, and for one that is passed to the model unchanged.
_UNTITLED = "DynamicModel"
_RESPONSE_FORMAT = "dict"
_LONGEST_NAME = 64
# Of a schema with its references inlined: a few lines of references can expand to gigabytes.
_MAX_NODES = 10_000


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """``name`` is the content type of the answer; ``schema`` has an object at its root and no references."""

    name: str
    schema: dict[str, Any]


def read_output_schema(sent: object, *, as_response_format: bool = False) -> OutputSchema:
    """Return a client's schema; with ``as_response_format`` it may also be a provider's ``response_format``.

    Raises InvalidOutputSchema for anything but a JSON schema of an object, for external and recursive references,
    and for one that is too large.
    """
    if not isinstance(sent, dict):
        raise InvalidOutputSchema("expected a JSON object schema")
    schema: Any = sent
    if as_response_format and sent.get("type") == "json_object":
        schema = {"type": "object"}
    elif as_response_format and sent.get("type") == "json_schema":
        wrapped = sent.get("json_schema")
        schema = wrapped.get("schema") if isinstance(wrapped, dict) else None
        if not isinstance(schema, dict):
            raise InvalidOutputSchema("json_schema.schema must be an object")
    if schema.get("type") != "object":
        raise InvalidOutputSchema('root must declare "type": "object"')
    inlined = _Inliner(schema).root()
    _validator(inlined)
    title = schema.get("title")
    name = title[:_LONGEST_NAME] if isinstance(title, str) and title else _UNTITLED
    return OutputSchema(_RESPONSE_FORMAT if as_response_format else name, inlined)


def compile_schema(schema: Mapping[str, Any]) -> Callable[[object], str | None]:
    """Return a function that explains to the model how an answer violates the schema; None where it fits."""
    validator = _validator(schema)

    def find_violation(answer: object) -> str | None:
        errors = [
            f"{'.'.join(map(str, error.instance_path)) or 'answer'}: {error.message}"
            for error in validator.iter_errors(answer)
        ]
        return "; ".join(errors) or None

    return find_violation


def _validator(schema: Mapping[str, Any]) -> Validator:
    # It takes 40 ms to load, and most servers never need it.
    try:
        return json_schema.validator_of(schema)
    except ValueError as error:
        raise InvalidOutputSchema(str(error).partition("\n")[0][:300]) from None


class _Inliner:
    """Inlines the references of one schema to its own definitions."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        self._left = _MAX_NODES

    def root(self) -> dict[str, Any]:
        root = {name: value for name, value in self._schema.items() if name not in {"$defs", "definitions"}}
        written: dict[str, Any] = self._write(root, ())
        return written

    def _write(self, node: Any, within: tuple[str, ...]) -> Any:  # noqa: ANN401 - whatever is JSON
        self._left -= 1
        if self._left < 0:
            raise InvalidOutputSchema("it is too large")
        if isinstance(node, list):
            return [self._write(item, within) for item in node]
        if not isinstance(node, dict):
            return node
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return {name: self._write(value, within) for name, value in node.items()}
        beside = {name: self._write(value, within) for name, value in node.items() if name != "$ref"}
        if reference in within:
            raise InvalidOutputSchema("recursive references are not supported")
        return {**self._write(self._find(reference), (*within, reference)), **beside}

    def _find(self, reference: str) -> dict[str, Any]:
        for key in ("$defs", "definitions"):
            definitions, name = self._schema.get(key), reference.removeprefix(f"#/{key}/")
            if name != reference and isinstance(definitions, dict) and isinstance(definitions.get(name), dict):
                found: dict[str, Any] = definitions[name]
                return found
        raise InvalidOutputSchema(f"there is no definition at {reference[:_LONGEST_NAME]!r}")
