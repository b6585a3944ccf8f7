"""Answers are recorded as the model streams them, though the agent does not stream: only where its hooks need that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import AbstractCapability, Hooks, ProcessEventStream
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, PartStartEvent, TextPart, UserPromptPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.run import AgentRunResult
from pydantic_ai.usage import RequestUsage, RunUsage

from tests.agents.process.test_link import Memory
from tests.agents.pydantic_ai.driving import driving
from tests.support.agents import Call, ScriptedModel
from tests.support.mortal_journal import setup_run
from tests.support.toolbox import JsonObject
from unpause.agents.driver import Segment
from unpause.agents.pydantic_ai.answers import RecordedModel, needs_streams
from unpause.agents.pydantic_ai.events import EventRecorder
from unpause.agents.pydantic_ai.failures import Meter, RunLimits
from unpause.clock import RandomIds
from unpause.domain.events import EventType


async def in_words(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    del messages, info
    for word in ("one ", "two ", "three"):
        yield word


def told(events: Sequence[JsonObject]) -> list[str]:
    """Return the pieces of text that a client was sent."""
    return [event["content"] for event in events if event["event"] == "RunContent" and event.get("content")]


async def needs(agent: Agent[Any, Any], settings: Any = None) -> bool:  # noqa: ANN401 - any settings
    async with agent.iter("go") as run:
        return needs_streams(run, settings)


async def test_a_model_that_can_only_stream_is_recorded_piece_by_piece(tmp_path: Path) -> None:
    agent = Agent(FunctionModel(stream_function=in_words), name="agent")
    assert not await needs(agent)

    async with driving(tmp_path, agent) as server:
        events = await server.events()
        run = await server.run()

    assert "".join(told(events)) == run["content"] == "one two three"


async def test_the_agents_own_hooks_see_every_event(tmp_path: Path) -> None:
    seen: list[object] = []

    async def see(_: RunContext[Any], stream: Any) -> None:  # noqa: ANN401 - a stream of any events
        seen.extend([event async for event in stream])

    agent = Agent(FunctionModel(stream_function=in_words), name="agent", capabilities=[ProcessEventStream(see)])
    assert await needs(agent)

    async with driving(tmp_path, agent) as server:
        events = await server.events()

    assert any(isinstance(event, PartStartEvent) for event in seen)
    assert "".join(told(events)) == "one two three"


async def test_an_agent_streams_for_hooks_into_requests_and_for_a_time_out_of_the_first_event() -> None:
    model = FunctionModel(stream_function=in_words)
    assert await needs(Agent(model, capabilities=[Hooks()]))
    assert await needs(Agent(model), {"first_event_timeout": 1.0})
    assert await needs(Agent(model), lambda _: {})
    assert not await needs(Agent(model), {"temperature": 0.0})


async def test_what_another_agent_is_answered_by_the_same_model_is_no_answer_of_the_run(tmp_path: Path) -> None:
    inner = Agent(name="inner")

    async def prompted(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        del info
        (last,) = (part.content for part in messages[-1].parts if isinstance(part, UserPromptPart))
        yield f"answer to {last}"

    async def whole(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse([TextPart("".join([str(piece) async for piece in prompted(messages, info)]))])

    agent = Agent(FunctionModel(whole, stream_function=prompted), name="agent")

    @agent.instructions
    async def ask(ctx: RunContext[Any]) -> str:
        assert type(ctx.model) is FunctionModel
        result: AgentRunResult[str] = await inner.run("inner", model=ctx.model)
        return result.output

    async with driving(tmp_path, agent) as server:
        events = await server.events(message="outer")

    assert "".join(told(events)) == "answer to outer"


class Contexts(FunctionModel):
    """A model that keeps the contexts of its requests."""

    def __init__(self) -> None:
        super().__init__(stream_function=in_words)
        self.seen: list[RunContext[Any] | None] = []

    @asynccontextmanager
    async def request_stream(self, *sent: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - whatever a request has
        self.seen.append(sent[3])
        async with super().request_stream(*sent) as stream:
            yield stream


class Bystander(AbstractCapability[Any]):
    """A capability of an author's that does nothing."""


@pytest.mark.parametrize("capabilities", [[], [Bystander()]])
async def test_a_model_is_asked_in_the_context_of_the_run(capabilities: list[Bystander], tmp_path: Path) -> None:
    model = Contexts()

    async with driving(tmp_path, Agent(model, name="agent", capabilities=capabilities)) as server:
        await server.run("go")

    (context,) = model.seen
    assert context is not None
    assert (context.prompt, context.run_step, context.model) == ("go", 1, model)


async def test_a_request_copies_no_tool(tmp_path: Path) -> None:
    script = ScriptedModel([Call("look", {})], "done")
    agent = Agent(script.model, name="agent")

    @agent.tool_plain
    def look() -> str:
        return "seen"

    async with driving(tmp_path, agent) as server:
        await server.run()

    # With twenty tools the copies took a tenth of an agent's loop.
    one, other = (info.function_tools[0].parameters_json_schema for info in script.infos)
    assert one is other


@dataclass
class Answered:
    """A stream of an answer that a provider has given in part."""

    answer: ModelResponse
    error: Exception | None = None
    usage: RequestUsage = field(default_factory=RequestUsage)

    def get(self) -> ModelResponse:
        return self.answer

    async def __aiter__(self) -> AsyncIterator[object]:
        for index, part in enumerate(self.answer.parts):
            yield PartStartEvent(index=index, part=part)
        if self.error is not None:
            raise self.error


class Scripted(FunctionModel):
    """A model with these streams."""

    def __init__(self, *streams: Answered) -> None:
        super().__init__(stream_function=in_words)
        self._streams = iter(streams)

    @asynccontextmanager
    async def request_stream(self, *_: Any) -> AsyncIterator[Any]:  # noqa: ANN401 - whatever a request has
        yield next(self._streams)


class Recording:
    """A model that is recorded, and what comes of it."""

    def __init__(self, *streams: Answered, total_tokens_limit: int | None = None) -> None:
        self.journal, self.meter = Memory(), Meter(RunUsage())
        self.recorder = EventRecorder(Segment(setup_run("go", 1)), self.journal, RandomIds())
        limits = RunLimits(total_tokens_limit=total_tokens_limit)
        self._model = RecordedModel(Scripted(*streams), None, self.recorder, self.meter, limits)

    async def request(self, *earlier: ModelMessage) -> ModelResponse:
        messages = [ModelRequest([UserPromptPart("go")]), *earlier]
        return await self._model.request(messages, None, ModelRequestParameters())

    def text(self) -> str:
        deltas = (payload for kind, payload in self.journal.sent if kind is EventType.CONTENT_DELTA)
        return "".join(payload["content"] for payload in deltas)


@pytest.mark.parametrize("rest", ["one two", " two"])
async def test_an_answer_that_the_provider_suspends_is_recorded_once(rest: str) -> None:
    suspended = ModelResponse([TextPart("one")], state="suspended")
    recording = Recording(Answered(suspended), Answered(ModelResponse([TextPart(rest)])))

    await recording.request()
    await recording.request(suspended)

    assert recording.text() == recording.recorder.text == "one two"


async def test_an_answer_that_breaks_off_is_kept_and_counted() -> None:
    broken = ModelResponse([TextPart("ha")], usage=RequestUsage(output_tokens=7))
    recording = Recording(Answered(broken, RuntimeError("reset")))

    with pytest.raises(RuntimeError, match="reset"):
        await recording.request()

    assert recording.recorder.partial is not None
    assert (recording.recorder.partial.text, recording.recorder.partial.state) == ("ha", "interrupted")
    assert (recording.meter.usage.requests, recording.meter.usage.output_tokens) == (1, 7)
