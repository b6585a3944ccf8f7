"""A call's arguments as people see them: the JSON of what the tool would get, and how it differs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_ai.exceptions import ModelRetry
from pydantic_core import SchemaValidator, core_schema, to_json, to_jsonable_python

from unpause.agents.concealed import Concealed
from unpause.domain.arguments import is_same_json
from unpause.domain.output_schema import compile_schema
from unpause.errors import InvalidOutputSchema

if TYPE_CHECKING:
    from pydantic_ai.toolsets import ToolsetTool

_MISSING = object()
_MASK = "**********"
_LONGEST_VALUE = 200
# The titles of validators that take whatever an MCP server's tool, or one made from a schema, is called with.
_UNCHECKED = ("any", "dict[str,any]")
_LONGEST_TEXT = 1_000

ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema()))


class Misfit(ValueError):
    """Arguments that do not fit the parameters of their tool as they are now."""


@dataclass(frozen=True, slots=True)
class Validation:
    """The result of a validation: ``error`` refuses the arguments, or defers the call where there are ``arguments``."""

    arguments: Any
    error: Exception | None = None

    def take(self) -> dict[str, Any]:
        """Return the arguments; raise what refuses them, or defers the call that they are of."""
        if self.error is not None:
            raise self.error
        arguments: dict[str, Any] = self.arguments
        return arguments


@dataclass(frozen=True, slots=True)
class ShownCall:
    """What was shown of a call: its ``arguments``, and the arguments that the tool's validation made them of.

    ``values`` is what a human changed or filled in, which is part of both; the names in ``filled_in`` are those of
    parameters that only a human gives.
    """

    arguments: dict[str, Any]
    sent: dict[str, Any]
    values: Mapping[str, Any] = field(default_factory=dict)
    filled_in: Collection[str] = ()

    @property
    def original(self) -> dict[str, Any]:
        """The arguments as the model and people sent them: a secret is not readable from what is shown."""
        return {**self.sent, **self.values}

    def find_changes(self, arguments: Mapping[str, Any]) -> set[str]:
        """Return the names of validated arguments, as JSON, that are not those that were shown."""
        fixed = ({*arguments} | {*self.arguments}) - {*self.filled_in}
        return {name for name in fixed if not self._matches(name, arguments.get(name, _MISSING))}

    def read_back(self, changed: Collection[str]) -> dict[str, Any] | None:
        """Return the original arguments, but the ``changed`` ones as they were shown.

        None where one of them is a secret or was never shown.
        """
        shown = {name: self.arguments.get(name, _MISSING) for name in changed}
        if any(value is _MISSING or is_masked(value) for value in shown.values()):
            return None
        return {**self.original, **shown}

    def _matches(self, name: str, value: object) -> bool:
        if name in self.values:
            return is_alike(value, self.values[name])
        shown = self.arguments.get(name, _MISSING)
        return shown is not _MISSING and value is not _MISSING and is_same_json(value, shown)


def show(validated: Any, sent: Mapping[str, Any], properties: Collection[str]) -> dict[str, Any]:  # noqa: ANN401 - any value of a tool
    """Return validated arguments as JSON; one that is no JSON is shown as it was sent, or by its type's name.

    ``properties`` are the parameters as the model sees them: a tool with a single object for its arguments gets that
    object under another name, and it is shown without.
    """
    if not isinstance(validated, Mapping):
        return dict(sent)
    shown = {str(name): _json(value, sent.get(name, _MISSING)) for name, value in validated.items()}
    if len(shown) == 1:
        ((name, inner),) = shown.items()
        if name not in properties and isinstance(inner, dict):
            return inner
    return shown


def find_misfit(tool: ToolsetTool[Any], shown: ShownCall) -> Misfit | None:
    """Return how what was shown violates the schema of a tool that checks its arguments only where it runs."""
    if getattr(tool.args_validator, "title", None) not in _UNCHECKED:
        return None
    try:
        violation = compile_schema(tool.tool_def.parameters_json_schema)(shown.original)
    except InvalidOutputSchema:
        # Only the tool itself can check them.
        return None
    return None if violation is None else Misfit(f"its parameters are different now. {violation}")


def is_masked(shown: object) -> bool:
    """Whether a shown value has a secret in it, as asterisks."""
    return _MASK in to_json(shown).decode()


def read_arguments(arguments: str | dict[str, Any] | None) -> dict[str, Any]:
    """Return arguments as a model sent them; raise ValidationError for what is no object."""
    read: dict[str, Any] = (
        ANY_OBJECT.validate_json(arguments or "{}")
        if isinstance(arguments, str)
        else ANY_OBJECT.validate_python(arguments or {})
    )
    return read


def show_unfilled(
    tool: ToolsetTool[Any], sent: dict[str, Any], names: Collection[str], context: object
) -> dict[str, Any]:
    """Return what can be shown of a call before a human fills in the parameters with these ``names``.

    The rest is checked as far as the tool's schema can. Raises ModelRetry where that is wrong.
    """
    definition = tool.tool_def
    properties = definition.parameters_json_schema.get("properties", {})
    try:
        validated = tool.args_validator.validate_json(to_json(sent), context=context)
    except ValidationError as error:
        wrong = [
            detail
            for detail in error.errors(include_url=False, include_context=False)
            if not detail["loc"] or detail["loc"][0] not in names
        ]
        if wrong:
            raise ModelRetry("; ".join(f"{_place(item['loc'])}: {item['msg']}" for item in wrong)) from None
        defaults = {name: of["default"] for name, of in properties.items() if "default" in of and name not in names}
        return {**defaults, **sent}
    shown = show(validated, sent, properties)
    return {name: value for name, value in shown.items() if name not in names}


def explain_change(tool_name: str, shown: Mapping[str, Any], now: Mapping[str, Any], hidden: Collection[str]) -> str:
    """Return why a call has to be decided again: what of its arguments is not as it was shown."""
    names = [name for name in {**shown, **now} if name not in hidden]
    changed = [
        f"{name} was {_shown(shown, name)} and is now {_shown(now, name)}"
        for name in names
        if name not in shown or name not in now or not is_same_json(shown[name], now[name])
    ]
    reason = "; ".join(changed) or "A secret among them cannot be read back from what was shown"
    return _cut(f"{tool_name} did not run: its arguments would not be those that were shown. {reason}.")


def explain_refusal(tool_name: str, error: Exception, values: Mapping[str, Any]) -> str:
    """Return why a call has to be decided again: its tool refuses the arguments. ``values`` are not repeated."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = "; ".join(f"{_place(detail['loc'])}: {detail['msg']}" for detail in details)
    else:
        reasons = str(error)
    return _cut(Concealed(values.values()).hide(f"{tool_name} did not run: {reasons}"))


def _json(value: Any, sent: object) -> Any:  # noqa: ANN401 - any value of a tool
    # Reading an iterator would take its items from the tool.
    shown = _MISSING if isinstance(value, Iterator) else _dumped(value)
    if shown is not _MISSING:
        return shown
    return type(value).__name__ if sent is _MISSING else sent


def _dumped(value: Any) -> Any:  # noqa: ANN401 - any value of a tool
    if isinstance(value, set | frozenset):
        # A set of text has another order in another process.
        return sorted((_json(item, _MISSING) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, list | tuple):
        return [_json(item, _MISSING) for item in value]
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return {name: _json(item, _MISSING) for name, item in value.items()}
    if isinstance(value, datetime):
        # As people write it, and as it is read back.
        return str(value)
    for bytes_mode in ("utf8", "base64"):
        try:
            return to_jsonable_python(value, bytes_mode=bytes_mode, inf_nan_mode="strings")
        except Exception:  # noqa: BLE001, S112 - the boundary around an author's object, whose own code writes it
            continue
    return _MISSING


def is_alike(value: object, chosen: object) -> bool:
    """Whether a validated value is the one that a human chose: ``"5"`` may become 5, but not 50."""
    if is_same_json(value if value is not _MISSING else None, chosen):
        return True
    if isinstance(value, dict | list) or isinstance(chosen, dict | list):
        return False
    try:
        return float(str(value)) == float(str(chosen))
    except ValueError:
        return str(value).lower() == str(chosen).lower()


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(map(str, loc)) or "arguments"


def _shown(arguments: Mapping[str, Any], name: str) -> str:
    if name not in arguments:
        return "absent"
    text = to_json(arguments[name]).decode()
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
