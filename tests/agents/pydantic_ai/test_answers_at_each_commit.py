"""A process dies at each commit of a run in turn: no function of an answer runs twice unless a human said so."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Literal

import pytest
from pydantic_ai import Agent, ModelRetry, TextOutput, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.support.agents import Call
from tests.support.mortal_journal import MortalJournal, run_to_the_end, setup_run
from tests.support.pairing import unpaired
from tests.support.serving import options_for
from unpause.agents.driver import Completed
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.settings import Settings

Strategy = Literal["early", "graceful", "exhaustive"]
Turns = list[list[Call] | str]


def _final(to: str, call_id: str) -> Call:
    return Call("final_result", {"to": to}, call_id)


REFUSED: Turns = [[_final("nobody", "o1"), Call("act", {}, "a"), Call("do", {}, "d")], [_final("bob", "o2")]]
OUTWEIGHED: Turns = [[Call("look", {}, "l"), _final("ann", "o1"), Call("act", {}, "a")], [_final("bob", "o2")]]
TWO: Turns = [[_final("nobody", "o1"), _final("ann", "o2"), Call("do", {}, "d")]]
TEXT: Turns = ["nobody", "ann"]


class Story:
    """An agent whose model gives these turns, counted by what it was sent; ``did`` counts what was done."""

    def __init__(self, turns: Turns, strategy: Strategy) -> None:
        self.did: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._turns = turns
        self.agent: Agent[None, Any] = Agent(
            FunctionModel(stream_function=self._stream),
            name="agent",
            output_type=TextOutput(self._send) if isinstance(turns[0], str) else self._send,
            end_strategy=strategy,
            retries={"output": 3},
            instructions="Be brief.",
            tools=[
                Tool(self._act, name="act", requires_approval=True),
                Tool(self._do, name="do"),
                Tool(self._look, name="look"),
            ],
        )

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        del info
        self.wrong += unpaired(messages)
        turn = self._turns[sum(isinstance(message, ModelResponse) for message in messages)]
        if isinstance(turn, str):
            yield turn
            return
        for index, call in enumerate(turn):
            yield {index: call.delta()}

    async def _send(self, to: str) -> str:
        self.did[to] += 1
        if to == "nobody":
            detail = "no such person"
            raise ModelRetry(detail)
        return f"sent to {to}"

    async def _act(self) -> str:
        self.did["act"] += 1
        return "acted"

    async def _do(self) -> str:
        self.did["do"] += 1
        return "done"

    async def _look(self) -> str:
        self.did["look"] += 1
        detail = "look elsewhere"
        raise ModelRetry(detail)


async def reported(turns: Turns, strategy: Strategy, dies_at: int, *, after: bool) -> tuple[MortalJournal, Story, str]:
    """Let the story come to its end through one death; return the journal, what was done and the result."""
    story = Story(turns, strategy)
    driver = PydanticAIDriver(story.agent, options_for(Settings(dev=True)))
    journal = MortalJournal(replace(setup_run("go", 1), source_type="API"), dies_at, after=after)
    end = await run_to_the_end(driver, journal, {})
    assert isinstance(end, Completed), end
    return journal, story, end.content


@pytest.mark.parametrize(
    ("turns", "strategy"),
    [
        (REFUSED, "early"),
        pytest.param(REFUSED, "exhaustive", marks=pytest.mark.full),
        (OUTWEIGHED, "graceful"),
        pytest.param(TWO, "exhaustive", marks=pytest.mark.full),
        (TEXT, "graceful"),
    ],
)
async def test_whenever_the_process_dies_each_answer_is_processed_once(turns: Turns, strategy: Strategy) -> None:
    journal, undisturbed, result = await reported(turns, strategy, 0, after=False)
    assert set(undisturbed.did.values()) == {1}
    # Not after the last commit: then the run has ended.
    deaths = [(at, after) for at in range(1, journal.commits + 1) for after in (False, True)][:-1]
    for dies_at, after in deaths:
        journal, story, content = await reported(turns, strategy, dies_at, after=after)
        assert (content, story.wrong) == (result, []), (dies_at, after)
        requested = Counter(next(iter(call.tool_args.values()), call.tool_name) for call in journal.doubts)
        for what, times in story.did.items():
            assert 1 <= times <= 1 + requested[what], (what, dies_at, after)
        assert story.did.keys() == undisturbed.did.keys()
