"""Runs scenarios with Codegen's client against the address it is given."""

from __future__ import annotations

import sys

from codegen_api_client import ApiClient, Configuration  # type: ignore[import-not-found]

from tests.support.scenario_loop import run_scenarios

if __name__ == "__main__":
    run_scenarios(
        "tests.clients.codegen_scenarios", "codegen_api_client", lambda: ApiClient(Configuration(host=sys.argv[1]))
    )
