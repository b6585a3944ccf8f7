"""Replays the captured exchanges with AgentOS, one scenario on one fresh server at a time.

Those that need something to run while others are sent are in `test_agno_live_captures.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from tests.contract.differences import DELIBERATE, NOT_OFFERED
from tests.contract.live_scenarios import LIVE
from tests.contract.replaying import Replay
from tests.contract.scenario import CAPTURES, Scenario
from tests.contract.scripted_agents import scripted_agents
from tests.support.serving import serving

SCENARIOS: Final = CAPTURES.scenarios(leave_out=NOT_OFFERED)

# What was there already when these were captured: replayed before them, to be compared in its own scenario.
BEFORE: Final = {
    "177_sessions": ("037", "038", "072", "073", "166", "167", "168", "169", "170", "174", "176"),
}


# What the tools do in the scenario in which most continues are refused.
EXECUTED: Final = {"099_approvals": ["deploy(prod)", "grant(bob, editor)", "pay(5)"]}


@pytest.mark.parametrize("scenario", sorted(SCENARIOS.keys() - LIVE.keys()))
async def test_a_captured_scenario_is_answered_as_it_was(scenario: str, tmp_path: Path) -> None:
    executed: list[str] = []
    async with serving(tmp_path, agents=scripted_agents(executed)) as client:
        replayed = Scenario(Replay(client), executed)
        for number in BEFORE.get(scenario, ()):
            await replayed.replay.send(CAPTURES.by_number[number])
        for capture in SCENARIOS[scenario]:
            await replayed.step(capture.number)
    differences = "\n".join(replayed.found)
    assert not differences, differences
    assert EXECUTED.get(scenario, executed) == executed


async def test_a_partial_answer_is_kept_and_the_rest_completes_the_run(tmp_path: Path) -> None:
    executed: list[str] = []
    async with serving(tmp_path, agents=scripted_agents(executed)) as client:
        replay = Replay(client)
        for number in ("072", "073"):
            await replay.send(CAPTURES.by_number[number])
        assert executed == []
        rest = {"tool_call_id": replay.call_id("072", at=1), "confirmed": False, "confirmation_note": "no"}
        response = await client.post(
            f"/agents/hitl/runs/{replay.run_id('072')}/continue",
            data={"tools": json.dumps([rest]), "session_id": "m2", "stream": "false"},
        )
        body = response.json()
    assert (body["status"], body["content"]) == ("COMPLETED", "Done. Tool said: deleted /data/1 | no")
    assert executed == ["delete_file(/data/1)"]


async def test_an_approved_call_of_a_scenario_is_executed_exactly_once(tmp_path: Path) -> None:
    executed: list[str] = []
    async with serving(tmp_path, agents=scripted_agents(executed)) as client:
        replay = Replay(client)
        for capture in SCENARIOS["037_confirm2_create"]:
            await replay.send(capture)
    assert executed == ["delete_file(/data/b.txt)"]


def test_every_capture_is_replayed_or_listed_with_its_reason() -> None:
    of_2_5_6 = {f"{number:03}" for number in range(1, 200)} | {"live"}
    of_resume = {f"r{number:02}" for number in (*range(1, 15), 20, 21)}
    assert CAPTURES.by_number.keys() == of_2_5_6 | of_resume
    replayed = {capture.file for captures in SCENARIOS.values() for capture in captures}
    assert replayed | NOT_OFFERED.keys() == {capture.file for capture in CAPTURES.by_number.values()}
    assert not replayed & NOT_OFFERED.keys()
    assert replayed >= DELIBERATE.keys()
    assert SCENARIOS.keys() >= LIVE.keys()
    assert all(difference.reason for difference in DELIBERATE.values())
