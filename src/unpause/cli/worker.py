"""``unpause worker``: executes runs for the servers that share its database, until stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.agents.process.environment import protect_memory
from unpause.agents.process.launch import launched_agents
from unpause.cli.loading import loading_server
from unpause.cli.options import settings_command
from unpause.errors import InvalidSetting
from unpause.lazy import LazyModule
from unpause.operator_settings import DatabaseSettings, LogSettings, MetricsSettings, ProcessSettings
from unpause.settings import (
    AgentProcessSettings,
    AgentSettings,
    ExecutionSettings,
    PauseSettings,
    Settings,
    SetupCommandSettings,
    WebhookSettings,
)

if TYPE_CHECKING:
    from unpause.cli import worker_process
else:
    worker_process = LazyModule("unpause.cli.worker_process")

# What a process needs that executes runs and listens on no port.
_GROUPS = (
    ProcessSettings,
    LogSettings,
    MetricsSettings,
    AgentSettings,
    AgentProcessSettings,
    DatabaseSettings,
    ExecutionSettings,
    PauseSettings,
    WebhookSettings,
    SetupCommandSettings,
)


def _start(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; raise a ``Startup`` error for anything that makes that impossible."""
    protect_memory()
    if not settings.agents:
        raise InvalidSetting("no agents to execute: name a module or file with --agents")
    if not settings.worker:
        raise InvalidSetting("a worker with --no-worker would do nothing")
    with launched_agents(settings, demo=False) as launched:
        # SQLAlchemy and the services; meanwhile the agents load in their processes.
        with loading_server():
            run_worker = worker_process.run_worker
        run_worker(settings, launched)


worker = settings_command(_start, _GROUPS, without={"worker", "access_log", "metrics"})
