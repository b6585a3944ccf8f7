"""The fields of a form, and whether the values that a human gives fit them as far as a form can tell.

The tool's own schema is the judge of a value. What is here stands in for it where nobody can ask the tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from unpause.errors import RequirementMismatch


@dataclass(frozen=True, slots=True)
class InputField:
    """One argument of a call that people are shown: ``field_type`` is one of ``str int float bool list dict``.

    ``open`` fields are for the human to fill in, ``editable`` ones show what the model chose and may be changed, the
    others are fixed. ``schema`` is the JSON schema of the value, whole in itself; None where it is not known, as of
    calls that waited before there was such a thing.
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
        """Whether null is a value that can be filled in."""
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

# Words of JSON Schema beside which a type alone says too little, or too much.
_MORE_THAN_A_TYPE = frozenset({"anyOf", "oneOf", "allOf", "enum", "const", "$ref", "not"})


def read_value(call: str, field: InputField, value: object) -> object:
    """Return the value as the field's type has it; raise RequirementMismatch for one that plainly is no such value.

    It is returned as it is where more than a type decides.
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
