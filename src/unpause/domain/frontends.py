"""What a client's front end brings for a run: tools that it runs itself, and context for the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class FrontendTool:
    """A tool that the client runs: ``parameters`` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContextItem:
    """Something that the application wants the model to know."""

    description: str
    value: str


@dataclass(frozen=True, slots=True)
class Frontend:
    """What came with the request that created a run, and counts for all of it."""

    tools: tuple[FrontendTool, ...] = ()
    context: tuple[ContextItem, ...] = ()

    def as_json(self) -> dict[str, Any] | None:
        """Return what is stored; None for nothing."""
        if not self.tools and not self.context:
            return None
        tools = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters} for tool in self.tools
        ]
        return {
            "tools": tools,
            "context": [{"description": item.description, "value": item.value} for item in self.context],
        }


def read_frontend(stored: dict[str, Any] | None) -> Frontend:
    """Return what ``as_json`` made."""
    if stored is None:
        return Frontend()
    return Frontend(
        tuple(FrontendTool(**tool) for tool in stored.get("tools", ())),
        tuple(ContextItem(**item) for item in stored.get("context", ())),
    )
