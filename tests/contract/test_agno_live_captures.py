"""Replays the captured exchanges with AgentOS in which something runs while other requests are sent."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.contract.live_scenarios import LIVE

# Seconds. Reached only when something never comes that a scenario waits for.
DEADLINE: Final = 60.0


@pytest.mark.parametrize("scenario", sorted(LIVE))
async def test_a_scenario_with_a_running_run_is_answered_as_it_was(scenario: str, tmp_path: Path) -> None:
    async with asyncio.timeout(DEADLINE):
        differences = "\n".join(await LIVE[scenario](tmp_path))
    assert not differences, differences
