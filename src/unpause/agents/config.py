"""What agents need of the settings, wherever they run, and the agents of a server as the rest of it sees them."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from unpause.agents.driver import AgentDriver

_log = structlog.get_logger(__name__)


class AgentsConfig(BaseModel):
    """The settings that agents need: no secret is among them. ``demo`` serves the demo agent, and no other.

    ``withheld`` are the names of environment variables that an agent process does not get.
    """

    model_config = ConfigDict(frozen=True)

    demo: bool
    readable_logs: bool
    executes: bool
    agents: tuple[str, ...]
    model: str | None
    model_base_url: str | None
    models: tuple[str, ...]
    request_limit: int
    total_tokens_limit: int | None
    max_result_bytes: int
    workspace: Path
    default_agent: str | None
    workspace_root: Path | None
    command_timeout_seconds: float
    command_output_bytes: int
    command_user: str | None
    withheld: tuple[str, ...] = ()

    def explain(self, problem: str) -> str:
        """Return why agents do not load; what is missing because an agent process does not get it is named."""
        missing = [name for name in self.withheld if re.search(rf"\b{re.escape(name)}\b", problem)]
        if not missing:
            return problem
        return f"{problem} (agent processes get few environment variables: see --agent-env {','.join(missing)})"


def _cannot_reload() -> None:
    _log.warning("agents not reloaded: they run in the server's own process")


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents of a server. ``setup_commands`` prepares repositories, where anybody does.

    Inside of ``running`` they can be run: what they open once for a process is open then. ``reload`` begins to load
    them anew.
    """

    drivers: Sequence[AgentDriver]
    setup_commands: AgentDriver | None = None
    running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    reload: Callable[[], None] = _cannot_reload
