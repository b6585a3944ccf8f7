"""The agents of a server as the rest of it sees them: where they run, and when they are loaded."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from unpause.agents.driver import AgentDriver
    from unpause.agents.registry import AgentRegistry

_log = structlog.get_logger(__name__)


def _is_loaded() -> None:
    """Nothing: agents in the server's own process are loaded before there is a server."""


def _cannot_reload() -> None:
    _log.warning("agents not reloaded: they run in the server's own process")


@dataclass(frozen=True, slots=True)
class Agents:
    """The agents of a server. ``setup_commands`` prepares repositories, where anybody does.

    Inside of ``running`` they can be run: what they open once for a process is open then. ``reload`` begins to load
    them anew. Agents that run elsewhere are not known yet: ``publish_to`` has them put into a registry once they are
    loaded, and again whenever they are loaded anew; ``wait_until_loaded`` is for a start that has to know them first,
    and raises InvalidSetting.
    """

    drivers: Sequence[AgentDriver] = ()
    setup_commands: AgentDriver | None = None
    running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    reload: Callable[[], None] = _cannot_reload
    publish_to: Callable[[AgentRegistry], None] | None = None
    wait_until_loaded: Callable[[], None] = _is_loaded
