"""Has a tool's own schema check arguments that a human chose, without a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_core import to_json

from unpause.agents.concealed import Concealed
from unpause.agents.driver import ArgumentCheck
from unpause.agents.pydantic_ai.arguments import is_alike
from unpause.agents.pydantic_ai.schemas import property_names
from unpause.agents.pydantic_ai.tools import list_known_tools

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_ai import Agent
    from pydantic_ai.tools import Tool
    from pydantic_core import ErrorDetails

# What these say of a value is the author's words, or repeats some of it.
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

        None where only a run can tell: the tool is not known here, or its validators need what only a run has. Runs
        what the tool's author wrote, so it may take long.
        """
        tool = self._tools.get(tool_name)
        if tool is None:
            return None
        try:
            validated = tool.function_schema.validator.validate_json(to_json(dict(arguments)), context=self._context)
        except ValidationError as error:
            known = property_names(tool.tool_def.parameters_json_schema)
            return _refused(error, Concealed((arguments.get(name) for name in chosen), known), chosen)
        except BaseException:  # noqa: BLE001 - an author's validator, in a thread of its own: no error of the request
            return None
        return ArgumentCheck(values={name: _kept(tool, validated, name, arguments) for name in chosen})


def _refused(error: ValidationError, concealed: Concealed, chosen: Collection[str]) -> ArgumentCheck | None:
    problems: dict[str, str] = {}
    for found in error.errors(include_url=False, include_context=False):
        # An error of no argument in particular is about all of them together.
        name = str(found["loc"][0]) if found["loc"] else ", ".join(chosen)
        if name in chosen or not found["loc"]:
            problems.setdefault(name, _reason(found, concealed))
    # What the model chose is not for the human to put right: the run tells the model.
    return ArgumentCheck(problems=problems) if problems else None


def _reason(found: ErrorDetails, concealed: Concealed) -> str:
    place = ".".join(str(step) for step in found["loc"][1:])
    message = concealed.hide(found["msg"]) if _OWN_WORDS.fullmatch(found["type"]) else found["msg"]
    return f"{concealed.hide(place)}: {message}" if place else message


def _kept(tool: Tool[Any], validated: dict[str, Any], name: str, arguments: Mapping[str, Any]) -> object:
    """Return the argument as the tool has it where it only reads it, such as 5 for ``"5"``; else as it was given.

    What a tool makes of a value is shown before it runs, and would be made of that once more.
    """
    single = tool.function_schema.single_arg_name
    value = validated.get(name) if single is None else getattr(validated.get(single), name, None)
    is_plain = type(value) in {int, float, bool, str}
    return value if is_plain and is_alike(value, arguments[name]) else arguments[name]
