"""The model that a client chooses: it runs the run, the rest of a run after a resume, and is shown as what it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.support.agents import Call, Piece, ScriptedModel, Thought, Turn, parts_of
from tests.support.databases import Place
from tests.support.gates import Gates
from tests.support.runs import ADA, answer, finish, follow, look, start
from tests.support.serving import running, settings_for
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.redaction import Redaction
from unpause.api.agentos.wire.runs import run_output
from unpause.bootstrap import Application
from unpause.clock import RandomIds
from unpause.domain.events import EventType
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import EndReason, Run, RunRef, RunStatus, RunView
from unpause.errors import InvalidTransition, ModelNotAllowed
from unpause.services.commands import Accepted, ContinueRun, CreateRun

YES = (ToolAnswer("a", confirmed=True),)


class NamedModel(ScriptedModel):
    """A scripted model of another name, which passes the gate of that name before each answer."""

    def __init__(self, name: str, *turns: Turn, gates: Gates | None = None) -> None:
        super().__init__(*turns)
        self._name = name
        self._gates = gates or Gates()
        self.model = FunctionModel(stream_function=self._stream_named, model_name=name)

    async def _stream_named(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
        await self._gates.pass_through(self._name)
        async for piece in self._stream(messages, info):
            yield piece


class Models:
    """The agent's own model, and two that clients may choose."""

    def __init__(self, *gates: str) -> None:
        act = Call("act", {}, "a")
        self.gates = Gates(*gates)
        self.own = NamedModel("own-1", [act], "own is done")
        self.big = NamedModel("big-1", [Thought("Let me think"), "Now.", act], "big is done", gates=self.gates)
        self.small = NamedModel("small-1", "small is done")
        self.by_name = {"x:big": self.big, "x:small": self.small}
        self.did: list[str] = []

    def act(self) -> str:
        """Need a confirmation."""
        self.did.append("act")
        return "acted"

    def driver(self, *allowed: str, own: ScriptedModel | None = None) -> PydanticAIDriver:
        """Return the driver of a server whose settings allow these models."""
        options = DriverOptions(
            RandomIds(), Redaction({}), models={name: self.by_name[name].model for name in allowed or self.by_name}
        )
        tools = [Tool(self.act, requires_approval=True)]
        return PydanticAIDriver(Agent((own or self.own).model, name="agent", tools=tools), options)


@asynccontextmanager
async def served(folder: Path, *drivers: Any, **changes: Any) -> AsyncIterator[Application]:  # noqa: ANN401
    """Serve the agent; the same folder again is a restart."""
    async with running(folder, drivers=drivers, **changes) as application:
        yield application


async def made(application: Application, model: str | None = None, session_id: str | None = None) -> RunView:
    """Make a run with a model and return it when it pauses or ends."""
    command = CreateRun("agent", "go", session_id=session_id, model=model)
    accepted = await application.service.create_run(ADA, command)
    return await finish(application, accepted.run, accepted)


async def sent_on(application: Application, run: Run, **command: Any) -> Accepted:  # noqa: ANN401
    """Continue the run."""
    return await application.service.continue_run(ADA, RunRef(id=run.id), ContinueRun(**command))


def shown(view: RunView) -> tuple[str | None, str | None]:
    """Return the model that AgentOS's API shows for the run."""
    output = run_output(view, stored=True)
    return output.get("model"), output.get("model_provider")


async def reported(application: Application, run: Run) -> list[str]:
    """Return the models named by the events of the run's model requests."""
    events = [event async for event in application.follower.attach(run, 0)]
    return [event.payload["model"] for event in events if event.type is EventType.MODEL_REQUEST_STARTED]


async def test_the_chosen_model_runs_the_whole_run_and_is_shown(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application, "x:big")
        assert (paused.run.status, shown(paused)) == (RunStatus.PAUSED, ("big-1", "function"))
        done = await finish(application, paused.run, await sent_on(application, paused.run, answers=YES))
        assert (done.run.content, shown(done)) == ("big is done", ("big-1", "function"))
        assert await reported(application, done.run) == ["big-1", "big-1"]
        started = (await follow(application, done.run))[0]
    assert started.payload == {"model": "big-1", "model_provider": "function"}
    assert (len(models.big.requests), len(models.own.requests), models.did) == (2, 0, ["act"])


async def test_without_a_choice_the_agents_own_model_runs(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application)
        assert shown(paused) == ("own-1", "function")
        done = await finish(application, paused.run, await sent_on(application, paused.run, answers=YES))
    assert (done.run.content, done.run.model_choice) == ("own is done", None)


async def test_a_model_chosen_at_a_resume_runs_the_rest_with_all_that_was_said_before(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application, "x:big")
        accepted = await sent_on(application, paused.run, answers=YES, model="x:small")
        assert (accepted.run.model, accepted.run.model_choice) == ("small-1", "x:small")
        done = await finish(application, paused.run, accepted)
        assert (done.run.content, shown(done)) == ("small is done", ("small-1", "function"))
        assert await reported(application, done.run) == ["big-1", "small-1"]
    (requested,) = models.small.requests
    assert [part.content for part in parts_of(requested, TextPart, ToolReturnPart)] == ["Now.", "acted"]
    assert [part.tool_call_id for part in parts_of(requested, ToolCallPart)] == ["a"]
    assert [message.model_name for message in requested if isinstance(message, ModelResponse)] == ["big-1"]


async def test_a_choice_stays_through_pauses_and_restarts_until_another_is_made(tmp_path: Path) -> None:
    models = Models()
    models.small = models.by_name["x:small"] = NamedModel("small-1", [Call("act", {}, "b")], "small is done")
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application)
        accepted = await sent_on(application, paused.run, answers=YES, model="x:small")
        again = await finish(application, paused.run, accepted)
        assert again.run.status is RunStatus.PAUSED
    async with served(tmp_path, models.driver()) as application:
        accepted = await sent_on(application, again.run, answers=(ToolAnswer("b", confirmed=True),))
        done = await finish(application, again.run, accepted)
        assert await reported(application, done.run) == ["own-1", "small-1", "small-1"]
    assert (done.run.content, shown(done)[0], models.did) == ("small is done", "small-1", ["act", "act"])


async def test_a_model_chosen_with_only_a_part_of_the_answers_runs_the_rest(tmp_path: Path) -> None:
    models = Models()
    models.own = NamedModel("own-1", [Call("act", {}, "a"), Call("act", {}, "b")])
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application)
        assert not (await sent_on(application, paused.run, answers=YES, model="x:small")).moved
        partly = await look(application, paused.run)
        assert (partly.run.status, partly.run.model_choice) == (RunStatus.PAUSED, "x:small")
        accepted = await sent_on(application, paused.run, answers=(ToolAnswer("b", confirmed=True),))
        done = await finish(application, paused.run, accepted)
    assert (done.run.content, len(models.own.requests)) == ("small is done", 1)


async def test_a_session_may_go_on_with_another_model(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application, "x:big", "s")
        await finish(application, paused.run, await sent_on(application, paused.run, answers=YES))
        done = await made(application, "x:small", "s")
    assert done.run.content == "small is done"
    sent = [str(part.content) for part in parts_of(models.small.requests[0], TextPart)]
    assert sent == ["Now.", "big is done"]


async def test_a_model_that_is_not_allowed_makes_no_run(tmp_path: Path) -> None:
    place = Place(settings_for(tmp_path).database_url)
    async with served(tmp_path, Models().driver()) as application:
        before = place.lasting()
        with pytest.raises(ModelNotAllowed, match=r"'x:huge' is not available here; available: .*x:big, x:small"):
            await made(application, "x:huge")
        assert place.lasting() == before


async def test_a_model_that_is_not_allowed_leaves_a_paused_run_paused(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application)
        with pytest.raises(ModelNotAllowed):
            await sent_on(application, paused.run, answers=YES, model="x:huge")
        assert await look(application, paused.run) == paused
        done = await finish(application, paused.run, await sent_on(application, paused.run, answers=YES))
        # Where it stands comes first: that it is late matters more to a client than that its model is not there.
        with pytest.raises(InvalidTransition):
            await sent_on(application, done.run, answers=YES, model="x:huge")
    assert (done.run.status, models.did) == (RunStatus.COMPLETED, ["act"])


async def test_a_run_whose_model_is_no_longer_allowed_after_a_restart_ends_as_an_error(tmp_path: Path) -> None:
    models = Models("big-1")
    async with served(tmp_path, models.driver(), shutdown_grace_seconds=0.0) as application:
        run = (await application.service.create_run(ADA, CreateRun("agent", "go", model="x:big"))).run
        await models.gates.reached("big-1")
    async with served(tmp_path, models.driver("x:small")) as application:
        events = await follow(application, run)
        ended = (await look(application, run)).run
    assert (ended.status, ended.end_reason) == (RunStatus.ERROR, EndReason.AGENT_ERROR)
    assert ended.content == "Model 'x:big' is not available here; available: function:own-1, x:small"
    assert events[-1].type is EventType.RUN_FAILED
    assert models.big.requests == []


async def test_a_paused_run_whose_model_is_no_longer_allowed_goes_on_with_another(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        run = (await made(application, "x:big")).run
    async with served(tmp_path, models.driver("x:small")) as application:
        done = await finish(application, run, await sent_on(application, run, answers=YES, model="x:small"))
    assert (done.run.status, done.run.content, models.did) == (RunStatus.COMPLETED, "small is done", ["act"])


async def test_a_run_goes_on_with_the_agents_new_model_and_shows_it(tmp_path: Path) -> None:
    models = Models()
    async with served(tmp_path, models.driver()) as application:
        paused = await made(application)
    async with served(tmp_path, models.driver(own=models.small)) as application:
        done = await finish(application, paused.run, await answer(application, paused.run, *YES))
    assert (done.run.content, shown(done)[0]) == ("small is done", "small-1")


async def test_settings_name_the_models_that_clients_may_choose(tmp_path: Path) -> None:
    agent = Agent(ScriptedModel("own is done").model, name="agent")
    async with running(tmp_path, [agent], models="test") as application:
        run = (await application.service.create_run(ADA, CreateRun("agent", "go", model="test"))).run
        await follow(application, run)
        ended = await look(application, run)
        own = await start(application)
        await follow(application, own)
        assert (await look(application, own)).run.content == "own is done"
    assert (ended.run.status, shown(ended)) == (RunStatus.COMPLETED, ("test", "test"))
