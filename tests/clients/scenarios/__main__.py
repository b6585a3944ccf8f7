"""Runs scenarios with Agno's client against the address it is given."""

from __future__ import annotations

import sys

from agno.client import AgentOSClient  # type: ignore[import-not-found]

from tests.support.scenario_loop import run_scenarios

if __name__ == "__main__":
    run_scenarios("tests.clients.scenarios", "agno", lambda: AgentOSClient(sys.argv[1]))
