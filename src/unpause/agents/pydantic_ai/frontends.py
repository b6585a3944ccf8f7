"""What a client's front end adds to an agent for one run: tools that are run there, and context for the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from unpause.domain.frontends import read_frontend

if TYPE_CHECKING:
    from unpause.domain.runs import Run

_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}}


def tools_of(run: Run) -> ExternalToolset[Any] | None:
    """Return the client's tools; None where it has none."""
    tools = read_frontend(run.frontend).tools
    if not tools:
        return None
    return ExternalToolset(
        [
            ToolDefinition(
                name=tool.name, description=tool.description, parameters_json_schema=tool.parameters or _NO_ARGUMENTS
            )
            for tool in tools
        ],
        id="frontend",
    )


def context_of(run: Run) -> str | None:
    """Return the client's context as instructions; None where it has none."""
    items = read_frontend(run.frontend).context
    if not items:
        return None
    return "\n".join(["Context from the application:", *(f"- {item.description}: {item.value}" for item in items)])
