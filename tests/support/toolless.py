"""What drivers without any tools say about their tools."""

from __future__ import annotations

from unpause.agents.driver import ToolDescription


class Toolless:
    """A driver whose agent lists no tools."""

    def list_tools(self) -> list[ToolDescription]:
        """Return none."""
        return []
