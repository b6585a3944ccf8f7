"""A served agent with a tool for every kind of decision, at a time that the test sets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset
from sqlalchemy import select

from tests.support.database_clock import stop_clock
from tests.support.frames import read_frames
from tests.support.gates import Gates
from tests.support.serving import ADDRESS, settings_for
from tests.support.unchanging import Unchanging
from unpause.agents.policy import policy
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.api.app import create_app
from unpause.bootstrap import build_application
from unpause.factories import driver_options
from unpause.store.tables import metadata
from unpause.streaming.bus import InProcessBus

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from tests.support.frames import Frame
    from unpause.bootstrap import Application
    from unpause.domain.events import EventType

JsonObject: TypeAlias = dict[str, Any]
Turn: TypeAlias = Sequence[tuple[str, JsonObject]]

RUNS = "/agents/office/runs"
CODEGEN = "/v1/organizations/1/agent/run"


class SettableClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """Return the moment it shows."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


def plan(*turns: Turn) -> str:
    """Return a message that makes the office's model call these tools, one answer after the other."""
    return json.dumps(turns)


DEPLOY = plan([("deploy", {"env": "prod"})])


def office_agent(executed: list[str], gates: Gates, name: str = "office") -> Agent[None, str]:
    """Return the agent: each tool notes in ``executed`` that it ran; ``hold`` and the model pass their gates.

    A message that is no ``plan`` is answered in a few pieces.
    """
    tools = _Tools(executed, gates)
    return Agent(
        FunctionModel(stream_function=_model(gates), model_name="office-1"),
        name=name,
        tools=[
            Tool(tools.note),
            Tool(tools.delete_file, requires_approval=True),
            Tool(tools.hold, requires_approval=True, metadata=policy(expires_in=60, on_expire="approve")),
            Tool(tools.deploy, metadata=policy(approval="required")),
            Tool(tools.grant, metadata=policy(approval="required", user_input=["role"])),
            Tool(tools.pay, metadata=policy(approval="audit")),
            Tool(tools.deploy_soon, requires_approval=True, metadata=policy(approval="required", expires_in=60)),
            Tool(tools.soon_rejected, requires_approval=True, metadata=policy(expires_in=60)),
            Tool(tools.soon_approved, requires_approval=True, metadata=policy(expires_in=60, on_expire="approve")),
            Tool(tools.soon_cancelled, requires_approval=True, metadata=policy(expires_in=60, on_expire="cancel")),
        ],
        toolsets=[ExternalToolset([_external("run_shell"), _external("run_job", policy(approval="required"))], id="x")],
    )


def _external(name: str, rules: dict[str, object] | None = None) -> ToolDefinition:
    schema = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
    return ToolDefinition(name=name, parameters_json_schema=schema, metadata=rules)


@dataclass(frozen=True)
class NotingTools:
    """Tools that note in ``executed`` that they ran."""

    executed: list[str]
    gates: Gates

    def note(self, text: str) -> str:
        """Write a note."""
        return self.done(f"note({text})")

    def done(self, call: str) -> str:
        """Note the call, and say so."""
        self.executed.append(call)
        return f"did {call}"


@dataclass(frozen=True)
class _Tools(NotingTools):
    def delete_file(self, path: str) -> str:
        """Delete a file."""
        return self.done(f"delete_file({path})")

    async def hold(self, name: str) -> str:
        """Stay at the gate of this name."""
        said = self.done(f"hold({name})")
        await self.gates.pass_through(name)
        return said

    def deploy(self, env: str) -> str:
        """Deploy."""
        return self.done(f"deploy({env})")

    def grant(self, user: str, role: str) -> str:
        """Give a user a role."""
        return self.done(f"grant({user}, {role})")

    def pay(self, amount: int) -> str:
        """Pay."""
        return self.done(f"pay({amount})")

    def deploy_soon(self, env: str) -> str:
        """Deploy, if somebody decides within a minute."""
        return self.done(f"deploy_soon({env})")

    def soon_rejected(self, path: str) -> str:
        """Do something that silence forbids."""
        return self.done(f"soon_rejected({path})")

    def soon_approved(self, path: str) -> str:
        """Do something that silence allows."""
        return self.done(f"soon_approved({path})")

    def soon_cancelled(self, path: str) -> str:
        """Do something without which the run makes no sense."""
        return self.done(f"soon_cancelled({path})")


def _model(gates: Gates) -> Any:  # noqa: ANN401 - the library's name for it is private
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        del info
        await gates.pass_through("think")
        asked = max(index for index, message in enumerate(messages) if _is_asked(message))
        text = next(str(part.content) for part in messages[asked].parts if isinstance(part, UserPromptPart))
        turns = json.loads(text) if text.startswith("[") else []
        answered = sum(isinstance(message, ModelResponse) for message in messages[asked:])
        if answered < len(turns):
            yield {number: DeltaToolCall(tool, json.dumps(args)) for number, (tool, args) in enumerate(turns[answered])}
            return
        for piece in ("Done.", *(f" {words}" for words in _told(messages[asked:]))):
            yield piece

    return answer


def _is_asked(message: ModelMessage) -> bool:
    return isinstance(message, ModelRequest) and any(isinstance(part, UserPromptPart) for part in message.parts)


def _told(messages: list[ModelMessage]) -> list[str]:
    parts = (part for message in messages for part in message.parts)
    return [part.model_response_str() for part in parts if isinstance(part, ToolReturnPart)]


@dataclass(frozen=True)
class Office(Unchanging):
    """One server with the agents ``office`` and ``other``; ``executed`` is what their tools did."""

    client: httpx.AsyncClient
    application: Application
    clock: SettableClock
    executed: list[str] = field(default_factory=list)

    async def post(self, path: str, key: str | None = None, **form: str) -> httpx.Response:
        """Send a form, not streamed unless it says so; ``key`` is its Idempotency-Key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(path, data={"stream": "false", **form}, headers=headers)

    async def create(self, message: str = DEPLOY, agent: str = "office", **form: str) -> JsonObject:
        """Make a run and return it as it is when it pauses or ends."""
        return body_of(await self.post(f"/agents/{agent}/runs", message=message, **form))

    async def begin(self, message: str, **form: str) -> JsonObject:
        """Make a run in the background; return its ids."""
        return body_of(await self.post(RUNS, message=message, background="true", **form), 202)

    async def get(self, run: JsonObject) -> JsonObject:
        """Return the run as it stands."""
        return body_of(await self.client.get(path_of(run)))

    async def settled(self, run: JsonObject) -> JsonObject:
        """Return the run once nobody executes it."""
        await self.frames(run)
        return await self.get(run)

    async def frames(self, run: JsonObject, last_event_id: str | None = None) -> list[Frame]:
        """Return the run's events after a number, until it settles."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        response = await self.client.get(f"{path_of(run)}/events", headers=headers)
        assert response.status_code == 200, response.text
        return read_frames(response.text)

    async def post_continue(
        self, run: JsonObject, tools: object = "", key: str | None = None, **form: str
    ) -> httpx.Response:
        """Continue the run; ``tools`` that are no text are sent as JSON."""
        text = tools if isinstance(tools, str) else json.dumps(tools)
        return await self.post(f"{path_of(run)}/continue", key, tools=text, **form)

    async def continued(self, run: JsonObject, tools: object = "", **form: str) -> JsonObject:
        """Continue the run and return it as it is then."""
        return body_of(await self.post_continue(run, tools, **form))

    async def cancel(self, run: JsonObject) -> httpx.Response:
        """Cancel the run."""
        return await self.client.post(f"{path_of(run)}/cancel")

    async def approvals(self, **query: object) -> list[JsonObject]:
        """Return the approvals that a list shows."""
        listed: list[JsonObject] = body_of(await self.client.get("/approvals", params=_texts(query)))["data"]
        return listed

    async def approval_of(self, run: JsonObject) -> JsonObject:
        """Return the one approval of the run."""
        (found,) = await self.approvals(run_id=run["run_id"])
        return found

    async def resolve(
        self, approval: JsonObject, status: str = "approved", key: str | None = None, **body: object
    ) -> httpx.Response:
        """Decide the approval."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.client.post(
            f"/approvals/{approval['id']}/resolve", json={"status": status, **body}, headers=headers
        )

    async def sweep_after(self, seconds: float) -> int:
        """Let time pass, and do what is due then; return how many runs it was about."""
        self.clock.move(seconds)
        return await self.application.expiry.sweep()

    async def followed_by(self, count: int) -> None:
        """Wait until so many follow the first run there is."""
        bus = self.application.follower._bus  # noqa: SLF001 - who listens is for nobody but tests to know
        assert isinstance(bus, InProcessBus)
        while len(bus._subscriptions.get(1, ())) < count:  # noqa: ASYNC110, SLF001 - the bus tells nobody
            await asyncio.sleep(0)  # a turn for the others

    async def logged(self, kind: EventType) -> None:
        """Wait until the log of the first run there is holds such an event: what happened is written a little later."""
        async with aclosing(self.application.follower.follow_run(1, 0)) as events:
            async for event in events:
                if event.type is kind:
                    return
        message = f"the run settled without {kind}"
        raise AssertionError(message)

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table."""

        def unit(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
            return {
                table.name: [tuple(row) for row in connection.execute(select(*table.c).order_by(*table.primary_key))]
                for table in metadata.sorted_tables
            }

        return await self.application.database.read(unit)


@asynccontextmanager
async def at_office(
    folder: Path, clock: SettableClock | None = None, gates: Gates | None = None, **changes: object
) -> AsyncIterator[Office]:
    """Serve the agents on a database in ``folder``; the same folder and clock again is a restart."""
    clock, gates = clock or SettableClock(), gates or Gates()
    executed: list[str] = []
    # Only the test sweeps, after the one look at the start.
    settings = settings_for(folder, **{"sweep_seconds": 3600.0, **changes})
    # On PostgreSQL the database's clock counts.
    stop_clock(settings.database_url, clock.now())
    options = driver_options(settings)
    drivers = [PydanticAIDriver(office_agent(executed, gates, name), options) for name in ("office", "other")]
    application = build_application(settings, drivers, clock=clock)
    async with application.running():
        transport = httpx.ASGITransport(app=create_app(application), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield Office(client, application, clock, executed)


def path_of(run: JsonObject) -> str:
    """Return where AgentOS's API has the run."""
    return f"/agents/{run.get('agent_id', 'office')}/runs/{run['run_id']}"


def body_of(response: httpx.Response, status: int = 200) -> JsonObject:
    """Return the JSON object in an answer of this status."""
    assert response.status_code == status, response.text
    body = response.json()
    assert isinstance(body, dict), body
    return body


def confirming(run: JsonObject, *, confirmed: bool = True, **changes: object) -> list[JsonObject]:
    """Return the tools that a client sends to confirm, or not, all calls of the run that wait for that."""
    return [{**tool, "confirmed": confirmed, **changes} for tool in run["tools"] if tool["requires_confirmation"]]


def _texts(query: dict[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in query.items()}
