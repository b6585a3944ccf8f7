"""Checks arguments that a human chose with the tool's own schema, without a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import to_json

from unpause.agents.concealed import Concealed
from unpause.agents.driver import ArgumentCheck
from unpause.agents.pydantic_ai.arguments import is_masked, show
from unpause.agents.pydantic_ai.schemas import parameters_of, property_names
from unpause.agents.pydantic_ai.tools import list_known_tools
from unpause.domain.arguments import is_same_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_ai import Agent
    from pydantic_ai.tools import Tool
    from pydantic_core import ErrorDetails

# The messages of these errors are the author's, or repeat a part of the value.
_OWN_WORDS = re.compile(r"value_error|assertion_error|union_tag_invalid|.*_parsing|.*_format|.*_from_.*")


class ArgumentChecker:
    """Knows the validators of an agent's function tools."""

    def __init__(self, agent: Agent[Any, Any]) -> None:
        context = agent._get_validation_context()  # noqa: SLF001 - what the agent's runs validate with
        self._context = None if callable(context) else context
        known = [] if callable(context) else list_known_tools(agent)
        self._tools = {tool.definition.name: tool.source for tool in known if tool.source is not None}

    def check(self, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]) -> ArgumentCheck | None:
        """Return what is wrong with the ``chosen`` of the arguments, or how they are kept.

        None where only a run can check them: the tool is not known here, or its validators need what only a run has.
        Runs the code of the tool's author, so it may take long.
        """
        tool = self._tools.get(tool_name)
        if tool is None:
            return None
        try:
            return ArgumentCheck(values=self._kept(tool, dict(arguments), chosen))
        except ValidationError as error:
            known = property_names(tool.tool_def.parameters_json_schema)
            return _refused(error, Concealed((arguments.get(name) for name in chosen), known), chosen)
        except BaseException:  # noqa: BLE001 - the boundary around a validator: its failure is none of the request's
            return None

    def _kept(self, tool: Tool[Any], arguments: dict[str, Any], chosen: Collection[str]) -> dict[str, Any]:
        """Return the chosen arguments as the tool has them, or as they were sent where that does not validate again."""
        once = self._validated(tool, arguments)
        readable = {name: once[name] for name in chosen if name in once and not is_masked(once[name])}
        try:
            twice = self._validated(tool, {**arguments, **readable})
        except ValidationError:
            twice = {}
        same = {name for name, value in readable.items() if name in twice and is_same_json(value, twice[name])}
        return {name: readable[name] if name in same else arguments[name] for name in chosen}

    def _validated(self, tool: Tool[Any], arguments: dict[str, Any]) -> dict[str, Any]:
        validated = tool.function_schema.validator.validate_json(to_json(arguments), context=self._context)
        return show(validated, arguments, parameters_of(tool.tool_def))


def _refused(error: ValidationError, concealed: Concealed, chosen: Collection[str]) -> ArgumentCheck | None:
    problems: dict[str, str] = {}
    for found in error.errors(include_url=False, include_context=False):
        # An error without an argument is about all of them together.
        name = str(found["loc"][0]) if found["loc"] else ", ".join(chosen)
        if name in chosen or not found["loc"]:
            problems.setdefault(name, _reason(found, concealed))
    # An error in what the model chose is none of the human's: the run returns it to the model.
    return ArgumentCheck(problems=problems) if problems else None


def _reason(found: ErrorDetails, concealed: Concealed) -> str:
    place = ".".join(str(step) for step in found["loc"][1:])
    message = concealed.hide(found["msg"]) if _OWN_WORDS.fullmatch(found["type"]) else found["msg"]
    return f"{concealed.hide(place)}: {message}" if place else message
