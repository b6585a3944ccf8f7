"""An agent's own hooks around its run: they see a run's errors and results, and no pause as an error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.run import AgentRunResult

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel


@dataclass
class Watching(AbstractCapability[Any]):
    """Adds to each result, gives one in place of each error, and keeps the errors that it saw."""

    seen: list[BaseException] = field(default_factory=list)

    async def after_run(self, ctx: RunContext[Any], *, result: AgentRunResult[Any]) -> AgentRunResult[Any]:
        """Add to the result."""
        del ctx
        return replace(result, output=f"{result.output}, checked")

    async def on_run_error(self, ctx: RunContext[Any], *, error: BaseException) -> AgentRunResult[Any]:
        """Give another result."""
        del ctx
        self.seen.append(error)
        return AgentRunResult("something went wrong")


class Catching(AbstractCapability[Any]):
    """Gives a result in place of whatever its run raises."""

    async def wrap_run(
        self, ctx: RunContext[Any], *, handler: Callable[[], Awaitable[AgentRunResult[Any]]]
    ) -> AgentRunResult[Any]:
        """Give another result."""
        del ctx
        try:
            return await handler()
        except Exception:  # noqa: BLE001 - as a careless author would
            return AgentRunResult("caught")


def agent_with(script: ScriptedModel, capability: AbstractCapability[Any], did: list[str]) -> Agent[None, str]:
    """Return an agent with a tool that needs a confirmation."""
    agent = Agent(script.model, name="agent", capabilities=[capability])

    @agent.tool_plain(requires_approval=True)
    def act() -> str:
        did.append("act")
        return "acted"

    return agent


async def test_a_runs_result_is_what_its_hooks_make_of_it_and_a_pause_is_no_error(tmp_path: Path) -> None:
    did: list[str] = []
    watching = Watching()
    async with driving(tmp_path, agent_with(ScriptedModel([Call("act")], "done"), watching, did)) as server:
        run = await server.run()
        assert (run["status"], watching.seen, did) == ("PAUSED", [], [])
        done = await server.confirm(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "done, checked")
    assert (did, said_by_tools(done), watching.seen) == (["act"], [("act", "acted")], [])


async def test_a_hook_that_catches_everything_does_not_end_a_run_that_waits(tmp_path: Path) -> None:
    did: list[str] = []
    async with driving(tmp_path, agent_with(ScriptedModel([Call("act")], "done"), Catching(), did)) as server:
        run = await server.run()
        assert (run["status"], did) == ("PAUSED", [])
        done = await server.confirm(run)
    assert (done["status"], done["content"], did) == ("COMPLETED", "done", ["act"])


async def test_a_pause_is_no_error_in_a_trace(tmp_path: Path) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    agent = agent_with(ScriptedModel([Call("act")], "done"), AbstractCapability(), [])
    agent.instrument = InstrumentationSettings(tracer_provider=provider)
    async with driving(tmp_path, agent) as server:
        await server.confirm(await server.run())
    runs = [span for span in exporter.get_finished_spans() if span.name == "invoke_agent agent"]
    assert [span.status.status_code for span in runs] == [StatusCode.UNSET, StatusCode.UNSET]


async def test_a_result_in_place_of_an_error_is_the_runs(tmp_path: Path) -> None:
    watching, error = Watching(), LookupError("no model today")
    async with driving(tmp_path, agent_with(ScriptedModel([Call("act")], error), watching, [])) as server:
        done = await server.confirm(await server.run())
    assert (done["status"], done["content"]) == ("COMPLETED", "something went wrong, checked")
    assert watching.seen == [error]
    assert said_by_tools(done) == [("act", "acted")]


async def test_no_result_takes_the_place_of_an_error_of_the_servers(tmp_path: Path) -> None:
    # The name of the call is too long to be kept.
    script = ScriptedModel([Call("x" * 300)])
    async with driving(tmp_path, agent_with(script, Watching(), [])) as server:
        run = await server.run()
    assert run["status"] == "ERROR"
    assert "a name of 300 characters" in run["content"]
