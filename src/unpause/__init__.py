"""Unpause runs AI agents that stop to ask a human, and continues them when the human has answered."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpause.agents.deps import RunInfo, agent_deps
    from unpause.agents.idempotency import idempotency_key
    from unpause.agents.policy import policy
    from unpause.api.mount import combine_lifespans, create_app
    from unpause.settings import Settings

__all__ = ["RunInfo", "Settings", "agent_deps", "combine_lifespans", "create_app", "idempotency_key", "policy"]

_MODULES = {
    "RunInfo": "unpause.agents.deps",
    "Settings": "unpause.settings",
    "agent_deps": "unpause.agents.deps",
    "combine_lifespans": "unpause.api.mount",
    "create_app": "unpause.api.mount",
    "idempotency_key": "unpause.agents.idempotency",
    "policy": "unpause.agents.policy",
}


def __getattr__(name: str) -> object:
    """Load what authors import when they do: the command line, which needs none of it, starts in half the time."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
