"""What drivers without any tools say about their tools."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from unpause.agents.driver import ArgumentCheck, ModelName, ToolDescription
from unpause.errors import ModelNotAllowed


class Toolless:
    """A driver whose agent lists no tools and has one model."""

    model_name: str
    model_provider: str

    def list_models(self) -> dict[str, ModelName]:
        """Return none: clients choose no model here."""
        return {}

    def describe_model(self, choice: str | None) -> ModelName:
        """Return the only one."""
        if choice is not None:
            raise ModelNotAllowed(choice, [])
        return ModelName(self.model_name, self.model_provider)

    def list_tools(self) -> list[ToolDescription]:
        """Return none."""
        return []

    def check_arguments(
        self, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Leave everything to the run."""
        del tool_name, arguments, chosen
        return None
