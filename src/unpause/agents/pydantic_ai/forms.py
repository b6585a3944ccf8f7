"""The form of a tool call: a field for each parameter that people fill in or may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.agents.concealed import Concealed
from unpause.agents.pydantic_ai.schemas import field_type, parameters_of, parameters_schema, property_names, standalone
from unpause.domain.forms import InputField

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic_ai.tools import ToolDefinition

    from unpause.agents.policy import ToolPolicy
    from unpause.domain.requirements import Requirement


def conceal_filled_in(requirements: Iterable[Requirement]) -> Concealed:
    """Return a search for all values that users filled in so far, but not for the names of fields."""
    values: list[object] = []
    known: set[str] = set()
    for requirement in requirements:
        if requirement.answer is None or not requirement.answer.values:
            continue
        for field in requirement.fields:
            if field.open:
                values.append(requirement.answer.values.get(field.name))
                known.update(property_names(field.schema))
    return Concealed(values, known)


def conceal_arguments(rules: ToolPolicy, arguments: Mapping[str, Any]) -> Concealed:
    """Return a search for the values that the user filled in, as the tool got them: a date is not text there."""
    if not rules.user_input:
        return Concealed(())
    # The fields of a function's single model are its parameters.
    (*_, last) = arguments.values() or (None,)
    single = getattr(last, "__dict__", {}) if len(arguments) == 1 else {}
    return Concealed({**single, **arguments}.get(name) for name in rules.user_input)


def fields_of(tool: ToolDefinition, rules: ToolPolicy, arguments: Mapping[str, Any]) -> tuple[InputField, ...]:
    """Return the form of a call: every parameter where the user fills some in, else those which may be changed."""
    whole = parameters_schema(tool)
    definitions, required = whole.get("$defs", {}), whole.get("required", ())
    fields = []
    for name, of in parameters_of(tool).items():
        is_open, is_editable = name in rules.user_input, name in rules.editable
        if not (rules.user_input or is_editable):
            continue
        schema = standalone(of, definitions)
        fields.append(
            InputField(
                name=name,
                field_type=field_type(schema),
                description=schema.get("description", ""),
                # The model was never shown an open field: its value there is not the user's.
                value=None if is_open else arguments.get(name),
                open=is_open,
                required=name in required,
                editable=is_editable,
                schema=schema,
            )
        )
    return tuple(fields)
