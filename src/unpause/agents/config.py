"""What agents need of the settings, wherever they run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from unpause.operator_settings import LogLevel

if TYPE_CHECKING:
    from unpause.settings import Settings


class AgentsConfig(BaseModel):
    """The settings that agents need: no secret is among them. ``demo`` serves the demo agent, and no other.

    ``withheld`` are the names of environment variables that an agent process does not get. ``reports_files`` has it
    name the files of the modules that it has loaded.
    """

    model_config = ConfigDict(frozen=True)

    demo: bool
    readable_logs: bool
    log_level: LogLevel
    traces: bool
    executes: bool
    agents: tuple[str, ...]
    model: str | None
    model_base_url: str | None
    models: tuple[str, ...]
    request_limit: int
    total_tokens_limit: int | None
    max_result_bytes: int
    max_body_bytes: int
    workspace: Path
    default_agent: str | None
    workspace_root: Path | None
    command_timeout_seconds: float
    command_output_bytes: int
    command_user: str | None
    pauses_expire: bool
    approvals_expire: bool
    withheld: tuple[str, ...] = ()
    reports_files: bool = False

    def explain(self, problem: str) -> str:
        """Return why agents do not load; what is missing because an agent process does not get it is named."""
        missing = [name for name in self.withheld if re.search(rf"\b{re.escape(name)}\b", problem)]
        if not missing:
            return problem
        return f"{problem} (agent processes get few environment variables: see --agent-env {','.join(missing)})"


def agents_config(settings: Settings, *, demo: bool) -> AgentsConfig:
    """Return what agents need of the settings."""
    return AgentsConfig(
        demo=demo,
        readable_logs=settings.readable_logs,
        log_level=settings.log_level,
        traces=settings.traces,
        executes=settings.worker,
        agents=settings.agents,
        model=settings.model,
        model_base_url=settings.model_base_url,
        models=settings.models,
        request_limit=settings.request_limit,
        total_tokens_limit=settings.total_tokens_limit,
        max_result_bytes=settings.max_result_bytes,
        max_body_bytes=settings.max_body_bytes,
        workspace=settings.workspace,
        default_agent=settings.default_agent,
        workspace_root=settings.workspace_root,
        command_timeout_seconds=settings.command_timeout_seconds,
        command_output_bytes=settings.command_output_bytes,
        command_user=settings.command_user,
        pauses_expire=settings.pause_expires_seconds is not None,
        approvals_expire=settings.approval_expires_seconds is not None,
        reports_files=settings.reload,
    )
