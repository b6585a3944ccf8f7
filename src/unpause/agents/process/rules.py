"""How many agent processes there are, and when one is replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpause.agents.process.link import AgentLink


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRules:
    """How many processes, and when one is replaced: after so many segments, or holding so many bytes of memory.

    ``unresponsive_seconds`` is how long a blocked event loop is tolerated; None forever. ``cancel_seconds`` is how long
    a cancelled segment may go on, ``drain_seconds`` how long the others take at the most to move elsewhere, which they
    do before their next model or tool call. ``reloads`` is whether the agents are loaded anew when their files change.
    """

    processes: int
    cancel_seconds: float
    drain_seconds: float
    reloads: bool = False
    max_segments: int | None = None
    max_bytes: int | None = None
    unresponsive_seconds: float | None = None

    @property
    def needed(self) -> int:
        """How many processes have loaded the agents: one stands by a single one, unless a spare without agents does."""
        return self.processes if self.reloads else max(2, self.processes)

    def reason_to_replace(self, link: AgentLink, now: float) -> str | None:
        """Return why the process at this link has to be replaced, or None."""
        if any(now - since > self.cancel_seconds for since in link.cancelled.values()):
            return "a cancelled segment does not end"
        if self.max_segments is not None and link.segments_run >= self.max_segments:
            return "it has run its segments"
        if self.max_bytes is not None and link.memory > self.max_bytes:
            return "it holds too much memory"
        return None
