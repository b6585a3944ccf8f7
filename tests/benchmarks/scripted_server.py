"""``unpause`` with the scripted driver in the place of the agents: what the server costs without Pydantic AI.

It imports what is on PYTHONPATH, so that it runs an older commit, too.
"""

from __future__ import annotations

from contextlib import nullcontext
from unittest import mock

from tests.support.scripted_driver import ScriptedDriver
from unpause.agents.config import Agents
from unpause.cli import serve
from unpause.cli.main import main

if __name__ == "__main__":
    with mock.patch.object(serve, "started_agents", return_value=nullcontext(Agents([ScriptedDriver()]))):
        main()
