"""Replays the captured exchanges 005-098 with AgentOS 2.5.6, one scenario on one fresh server at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.contract.captures import Answer, Capture, JsonObject, Replay, load_captures
from tests.contract.comparison import Comparison
from tests.contract.differences import DELIBERATE, LATER, NOT_OFFERED, Difference
from tests.contract.scripted_agents import scripted_agents
from tests.support.serving import serving

CAPTURES = load_captures()
SCENARIOS = CAPTURES.scenarios(leave_out=[*LATER, *NOT_OFFERED])
REFUSED = 400


@dataclass(slots=True)
class Scenario:
    """One run of a scenario: what was sent, what the tools did, and every difference that was found."""

    replay: Replay
    executed: list[str]
    found: list[str] = field(default_factory=list)

    async def step(self, capture: Capture) -> None:
        """Replay one request and compare; a refused one must have changed nothing."""
        before = await self._state(capture)
        try:
            answer = await self.replay.send(capture)
            differences = self._differences(capture, answer)
        except LookupError as missing:
            self.found.append(f"{capture.file}: an earlier answer lacks what this is made from: {missing!r}")
            return
        self.found += [f"{capture.file}: {line}" for line in differences]
        if answer.status >= REFUSED and before != (after := await self._state(capture)):
            self.found.append(f"{capture.file}: refused, but it changed {before} to {after}")

    async def _state(self, capture: Capture) -> tuple[JsonObject | None, list[str]]:
        """Return what the run that the scenario is about looks like, and the executions so far."""
        created = capture.run_of or capture.scenario[:3]
        known = created in self.replay.answers and "run_id" in self.replay.answers[created].result
        return await self.replay.stored_run(created) if known else None, list(self.executed)

    def _differences(self, capture: Capture, answer: Answer) -> list[str]:
        comparison = Comparison(CAPTURES.shapes)
        run_id = self.replay.run_id(capture.run_of) if capture.run_of else None
        difference = DELIBERATE.get(capture.file)
        if difference is not None:
            self._compare_with_ours(comparison, capture, difference, answer)
        elif answer.status != capture.status or answer.content_type != capture.content_type:
            comparison.say("status", capture.status, answer.status)
            comparison.say("content type", capture.content_type, answer.content_type)
            comparison.found.append(f"body: {answer.body or answer.events}")
        elif capture.error is not None:
            comparison.error(capture.error, answer.body)
        elif capture.events is not None:
            comparison.events(capture.events, answer.events, run_id)
        else:
            comparison.run(capture.run or {}, answer.body, run_id)
        return comparison.found

    def _compare_with_ours(
        self, comparison: Comparison, capture: Capture, difference: Difference, answer: Answer
    ) -> None:
        comparison.say("status", difference.status, answer.status)
        comparison.say("content type", "application/json", answer.content_type)
        if answer.status != difference.status or not isinstance(answer.body, dict):
            comparison.found.append(f"body: {answer.body or answer.events}")
        elif difference.like is not None:
            expected = dict(CAPTURES.by_number[difference.like].run or {}) | dict(difference.run)
            expected["tools"] = [
                tool | dict(difference.tools.get(place, {})) for place, tool in enumerate(expected["tools"])
            ]
            comparison.run(expected, answer.body, self.replay.run_id(capture.run_of or ""))
        elif difference.detail is not None:
            run_id = self.replay.run_id(capture.run_of) if capture.run_of else capture.path.split("/")[4]
            comparison.error({"detail": difference.detail.replace("{run}", run_id)}, answer.body)
        else:
            names = (difference.names or "").replace("{call}", self.replay.call_id(capture.run_of or ""))
            if names not in str(answer.body.get("detail")):
                comparison.found.append(f"expected a detail that names {names}, got {answer.body}")


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
async def test_a_captured_scenario_is_answered_as_it_was(scenario: str, tmp_path: Path) -> None:
    executed: list[str] = []
    async with serving(tmp_path, agents=scripted_agents(executed)) as client:
        replayed = Scenario(Replay(client), executed)
        for capture in SCENARIOS[scenario]:
            await replayed.step(capture)
    differences = "\n".join(replayed.found)
    assert not differences, differences


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
    assert sorted(CAPTURES.by_number) == [f"{number:03}" for number in range(5, 99)]
    replayed = {capture.file for captures in SCENARIOS.values() for capture in captures}
    listed = {*LATER, *NOT_OFFERED}
    assert replayed | listed == {capture.file for capture in CAPTURES.by_number.values()}
    assert not replayed & listed
    assert set(DELIBERATE) <= replayed
