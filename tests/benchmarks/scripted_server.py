"""``unpause`` with the scripted driver in the place of the agents: what the server costs without Pydantic AI.

It imports what is on PYTHONPATH, so that it runs an older commit, too.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from importlib import import_module
from unittest import mock

from tests.support.scripted_driver import ScriptedDriver
from unpause.cli.main import main

if __name__ == "__main__":
    os.environ["UNPAUSE_AGENT_PROCESSES"] = "0"
    try:
        agents = import_module("unpause.agents.served").Agents([ScriptedDriver()])
        place, result = "unpause.cli.server_process.build_agents", agents
    except ModuleNotFoundError:
        # Before agents loaded beside the server.
        agents = import_module("unpause.agents.config").Agents([ScriptedDriver()])
        place, result = "unpause.cli.serve.started_agents", nullcontext(agents)
    with mock.patch(place, return_value=result):
        main()
