"""A segment is freed when it ends: its objects would else wait for the garbage collector, which stops the loop."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability, Hooks
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.run import AgentRun

from tests.benchmarks.instant_agent import _stream, act
from tests.support.reaching import until
from tests.support.serving import serving
from unpause.agents.process.segments import RemoteSegment
from unpause.agents.pydantic_ai.gate import CallGate
from unpause.services.segment_journal import SegmentJournal

OF_A_SEGMENT = (CallGate, AgentRun, RemoteSegment, SegmentJournal)


def break_it(on: str) -> str:
    """Fail."""
    raise RuntimeError(on)


def agent_with(tool: Callable[[str], str] = act, *capabilities: AbstractCapability[Any]) -> Agent[Any, Any]:
    agent = Agent(FunctionModel(stream_function=_stream), name="instant", capabilities=capabilities)
    agent.tool_plain(requires_approval=True, name="act")(tool)
    return agent


AGENTS = {
    "plain": agent_with(),
    "with_capability": agent_with(act, Hooks()),
    "failing_tool": agent_with(break_it),
}


@pytest.fixture
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize(
    ("name", "framed"),
    [
        ("plain", ""),
        ("plain", "1"),
        *(pytest.param(name, "", marks=pytest.mark.full) for name in ("with_capability", "failing_tool")),
    ],
)
async def test_nothing_of_a_segment_is_left_to_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, framed: str
) -> None:
    monkeypatch.setenv("UNPAUSE_TEST_FRAMED", framed)
    before = _count()
    async with serving(tmp_path, [AGENTS[name]]) as client:
        run = (await client.post("/agents/instant/runs", data={"message": "go", "stream": "false"})).json()
        tools = json.dumps([{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}])
        url = f"/agents/instant/runs/{run['run_id']}/continue"
        continued = await client.post(url, data={"tools": tools, "stream": "false"})
        assert continued.json()["status"] == "COMPLETED"
        # The client has its answer a little before the segment's task has ended.
        await until(lambda: _count() <= before)


def _count() -> int:
    return sum(isinstance(found, OF_A_SEGMENT) for found in gc.get_objects())
