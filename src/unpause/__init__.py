"""Unpause runs AI agents that stop to ask a human, and continues them when the human has answered."""

from __future__ import annotations

from unpause.agents.deps import RunInfo, agent_deps
from unpause.agents.policy import policy

__all__ = ["RunInfo", "agent_deps", "policy"]
