"""Unpause runs AI agents that stop to ask a human, and continues them when the human has answered."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpause.agents.deps import RunInfo, agent_deps
    from unpause.agents.policy import policy

__all__ = ["RunInfo", "agent_deps", "policy"]

_MODULES = {"RunInfo": "unpause.agents.deps", "agent_deps": "unpause.agents.deps", "policy": "unpause.agents.policy"}


def __getattr__(name: str) -> object:
    """Load what authors import when they do: the command line, which needs none of it, starts in half the time."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
