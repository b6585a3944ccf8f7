"""``unpause serve`` and ``unpause demo``: start the agents' processes, then load the server and become it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.agents.process.environment import protect_memory
from unpause.agents.process.launch import launched_agents
from unpause.cli.loading import loading_server
from unpause.cli.options import settings_command
from unpause.errors import InvalidSetting
from unpause.lazy import LazyModule
from unpause.settings import GROUPS, DemoSettings, Settings

if TYPE_CHECKING:
    from unpause.cli import server_process
else:
    server_process = LazyModule("unpause.cli.server_process")

_HINTS = """
  ┌──────────────────────────────────────────────────────────────────────
  │  Open {address}/console
  │  start a run there, and decide what the demo agent may do.
  └──────────────────────────────────────────────────────────────────────

Or try it from another terminal (the demo agent works in the folder unpause-workspace, on a small local model):

  # 1. The agent stops before it deletes a file:
  curl -s {address}/agents/files/runs -F message='delete old.log' -F stream=false

  # 2. Put the run_id and the tool_call_id of that answer in here to let it go on:
  curl -s {address}/agents/files/runs/RUN_ID/continue -F stream=false \\
       -F 'tools=[{{"tool_call_id":"TOOL_CALL_ID","confirmed":true}}]'

  # The same agent through Codegen's API; ID is the "id" of the first answer:
  curl -s {address}/v1/organizations/1/agent/run -H 'content-type: application/json' \\
       -d '{{"prompt":"delete notes.txt"}}'
  curl -s {address}/v1/organizations/1/agent/run/ID
  curl -s {address}/v1/organizations/1/agent/run/resume -H 'content-type: application/json' \\
       -d '{{"agent_run_id":ID,"prompt":"no, keep it"}}'

Stop it with Ctrl-C; start it again and everything that was paused is still there.
"""


def _start_server(settings: Settings) -> None:
    """Serve the agents of the settings until stopped."""
    if not settings.agents:
        raise InvalidSetting("no agents to serve: name a module or file with --agents, or try `unpause demo`")
    if settings.reload and settings.agent_processes == 0:
        raise InvalidSetting(
            "--reload loads agents anew in new agent processes, and with --agent-processes 0 there are none: "
            "leave one of the two out"
        )
    _start(settings)


def _start_demo(settings: Settings) -> None:
    """Serve the demo agent until stopped."""
    settings = settings.model_copy(update={"dev": True})
    _start(settings, _HINTS)


serve = settings_command(_start_server, [group for group in GROUPS if group is not DemoSettings])
demo = settings_command(_start_demo, GROUPS, without={"agents", "dev", "reload"})


def _start(settings: Settings, hints: str = "") -> None:
    if settings.dev and not settings.is_loopback:
        raise InvalidSetting(
            f"other machines can reach host {settings.host}, and with {'the demo' if hints else '--dev'} nobody needs "
            "a token: listen on 127.0.0.1, or serve without it"
        )
    protect_memory()
    with launched_agents(settings, demo=bool(hints)) as launched:
        # FastAPI, SQLAlchemy and all routes take a second; meanwhile the agents load in their processes.
        with loading_server():
            run_server = server_process.run_server
        run_server(settings, launched, hints)
