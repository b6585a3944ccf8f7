"""The fields of a form, and a check of values where the tool itself cannot check them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from unpause.errors import RequirementMismatch


@dataclass(frozen=True, slots=True)
class InputField:
    """One argument of a call that people are shown: ``field_type`` is one of ``str int float bool list dict``.

    The human fills in ``open`` fields, may change ``editable`` ones, which show the model's choice, and cannot change
    the others. ``schema`` is the JSON schema of the value without references; None for fields that an older version
    stored.
    """

    name: str
    field_type: str
    description: str
    value: Any = None
    open: bool = True
    required: bool = True
    editable: bool = False
    schema: dict[str, Any] | None = None

    @property
    def takes_null(self) -> bool:
        """Whether null is a valid value."""
        schema = self.schema or {}
        options = [schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())]
        return any(
            option.get("type") == "null"
            or (isinstance(option.get("type"), list) and "null" in option["type"])
            or None in option.get("enum", ())
            for option in options
        )


_FIELD_TYPES: Mapping[str, TypeAdapter[Any]] = {
    "str": TypeAdapter(str),
    "int": TypeAdapter(int),
    "float": TypeAdapter(float),
    "bool": TypeAdapter(bool),
    "list": TypeAdapter(list[Any]),
    "dict": TypeAdapter(dict[str, Any]),
}

# Keywords of JSON Schema with which the type alone does not decide.
_MORE_THAN_A_TYPE = frozenset({"anyOf", "oneOf", "allOf", "enum", "const", "$ref", "not"})


def read_value(call: str, field: InputField, value: object) -> object:
    """Return the value converted to the field's type; raise RequirementMismatch where that fails.

    The value is returned unchanged where the schema has more than a type.
    """
    schema = field.schema
    if schema is not None and not (isinstance(schema.get("type"), str) and _MORE_THAN_A_TYPE.isdisjoint(schema)):
        choices = schema.get("enum")
        if choices is not None and value not in choices:
            raise RequirementMismatch(f"{call}: field {field.name!r}: Input should be one of the choices")
        return value
    adapter = _FIELD_TYPES.get(field.field_type)
    if adapter is None:
        return value
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise RequirementMismatch(f"{call}: field {field.name!r}: {reason}") from None
