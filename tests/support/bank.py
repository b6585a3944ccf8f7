"""A served agent whose tools several people have to decide, and people with tokens of their own to do it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from tests.support.agents import desk_agent, plan
from tests.support.database_clock import DatabaseClock
from tests.support.databases import Place
from tests.support.frames import read_frames
from tests.support.gates import Gates
from tests.support.office import NotingTools, SettableClock
from tests.support.serving import ADDRESS, settings_for
from tests.support.unchanging import Unchanging
from unpause.agents.policy import policy
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.api.app import create_app
from unpause.auth.tokens import NewToken, make_token
from unpause.bootstrap import build_application
from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN, USUAL
from unpause.factories import driver_options
from unpause.store.users import add_organization

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from unpause.bootstrap import Application

JsonObject: TypeAlias = dict[str, Any]

CODEGEN = "/v1/organizations/1/agent/run"
_DEADLINE_SECONDS = 60
_DECIDES = (*USUAL, "approvals:write", "approvals:delete")

# Whose tokens there are, and with which scopes. `service` acts for whomever its requests name, `rival` is the
# administrator of another organization.
PEOPLE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "alice": _DECIDES,
        "bob": _DECIDES,
        "carol": (*_DECIDES, "finance:approve"),
        "root": (ADMIN,),
        "service": _DECIDES,
        "rival": (ADMIN,),
    }
)


def bank_agent(executed: list[str], gates: Gates) -> Agent[None, str]:
    """Return the agent: each tool notes in ``executed`` that it ran; ``hold`` passes the gate of its name."""
    tools = _Tools(executed, gates)
    return Agent(
        desk_agent([]).model,
        name="bank",
        tools=[
            Tool(tools.note, requires_approval=True),
            Tool(tools.hold, metadata=policy(quorum=2, four_eyes=True)),
            Tool(tools.fill, metadata=policy(four_eyes=True, user_input=["code"])),
            Tool(
                tools.appoint,
                metadata=policy(approval="required", user_input=["role"], editable=["amount"]),
            ),
            tools.about_an_amount("sign", policy(approval="required", editable=["amount"])),
            Tool(tools.grant, metadata=policy(four_eyes=True, approval="required", user_input=["role"])),
            tools.about_an_amount("pay", policy(four_eyes=True)),
            tools.about_an_amount("edit", policy(approvers=["bob"], editable=["amount"])),
            tools.about_an_amount("lend", policy(approvers=["bob", "finance:approve"])),
            tools.about_an_amount("move", policy(quorum=2, expires_in=60)),
            tools.about_an_amount("close", policy(quorum=2, approval="required", expires_in=60)),
            tools.about_an_amount("sell", policy(four_eyes=True, approval="required")),
            tools.about_an_amount("drop", policy(quorum=2, expires_in=60, on_expire="cancel")),
        ],
        toolsets=[
            ExternalToolset([_external("wire", four_eyes=True), _external("mint", quorum=2)], id="elsewhere"),
        ],
    )


def _external(name: str, *, four_eyes: bool = False, quorum: int = 1) -> ToolDefinition:
    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}
    return ToolDefinition(name=name, parameters_json_schema=schema, metadata=policy(four_eyes=four_eyes, quorum=quorum))


@dataclass(frozen=True)
class _Tools(NotingTools):
    async def hold(self, amount: int) -> str:
        """Stay at the gate."""
        said = self.done(f"hold({amount})")
        await self.gates.pass_through("hold")
        return said

    def fill(self, amount: int, code: str) -> str:
        """Pay with a code that somebody else knows."""
        return self.done(f"fill({amount}, {code})")

    def grant(self, amount: int, role: str) -> str:
        """Give somebody a role."""
        return self.done(f"grant({amount}, {role})")

    def appoint(self, amount: int, role: str) -> str:
        """Give somebody an office."""
        return self.done(f"appoint({amount}, {role})")

    def about_an_amount(self, name: str, rules: dict[str, Any]) -> Tool[None]:
        """Return a tool of this name, which does it."""

        def do(amount: int) -> str:
            return self.done(f"{name}({amount})")

        return Tool(do, name=name, metadata=rules)


@dataclass(frozen=True)
class Bank(Unchanging):
    """One server with the agent ``bank``; ``executed`` is what its tools did, ``tokens`` are those of ``PEOPLE``."""

    client: httpx.AsyncClient
    application: Application
    clock: SettableClock
    tokens: Mapping[str, str]
    executed: list[str] = field(default_factory=list)

    def headers(self, who: str, key: str | None = None) -> dict[str, str]:
        """Return how the person proves who they are; ``who`` may be a JWT instead."""
        named = {"Authorization": f"Bearer {self.tokens.get(who, who)}"}
        return named if key is None else {**named, "Idempotency-Key": key}

    async def create(self, who: str, *tools: str, **form: str) -> JsonObject:
        """Make a run that calls these tools at once; return it once it pauses or ends, with Codegen's ``key``."""
        message = plan([(tool, {"text": tool} if tool == "note" else {"amount": 5}) for tool in tools])
        sent = {"message": message, "stream": "false", **form}
        response = await self.client.post("/agents/bank/runs", data=sent, headers=self.headers(who))
        assert response.status_code == 200, response.text
        run: JsonObject = response.json()
        return run

    async def key_of(self, run: JsonObject) -> int:
        """Return Codegen's number of the run."""
        listed = await self.client.get(f"{CODEGEN}s", params={"limit": 100}, headers=self.headers("root"))
        assert listed.status_code == 200, listed.text
        (key,) = [item["id"] for item in listed.json()["items"] if item["web_url"].endswith(run["run_id"])]
        return int(key)

    async def get(self, run: JsonObject, who: str = "root") -> JsonObject:
        """Return the run as AgentOS's API shows it."""
        response = await self.client.get(f"/agents/bank/runs/{run['run_id']}", headers=self.headers(who))
        assert response.status_code == 200, response.text
        found: JsonObject = response.json()
        return found

    async def settled(self, run: JsonObject) -> JsonObject:
        """Return the run once nobody executes it."""
        async with asyncio.timeout(_DEADLINE_SECONDS):
            response = await self.client.get(f"/agents/bank/runs/{run['run_id']}/events", headers=self.headers("root"))
        assert response.status_code == 200, response.text
        assert read_frames(response.text)
        return await self.get(run)

    async def answer(
        self,
        who: str,
        run: JsonObject,
        *,
        confirmed: bool | None = True,
        key: str | None = None,
        **changes: Any,  # noqa: ANN401
    ) -> httpx.Response:
        """Answer all calls of the run that are open, through AgentOS's continue; ``form`` are further fields."""
        form = changes.pop("form", {})
        shown = await self.get(run)
        waiting = [item["tool_execution"] for item in shown["requirements"] if "confirmation" not in item]
        tools = [{**tool, "confirmed": confirmed, **changes} for tool in waiting]
        return await self.continue_with(who, run, tools, key=key, **form)

    async def continue_with(
        self, who: str, run: JsonObject, tools: Sequence[JsonObject], key: str | None = None, **form: str
    ) -> httpx.Response:
        """Send these tools to AgentOS's continue."""
        sent = {"tools": json.dumps(list(tools)), "stream": "false", **form}
        return await self.client.post(
            f"/agents/bank/runs/{run['run_id']}/continue", data=sent, headers=self.headers(who, key)
        )

    async def resume(
        self, who: str, run: JsonObject, prompt: str = "", tools: Sequence[JsonObject] | None = None, **more: object
    ) -> httpx.Response:
        """Resume through Codegen's API."""
        body = {"agent_run_id": await self.key_of(run), "prompt": prompt, "tools": tools, **more}
        given = {name: value for name, value in body.items() if value is not None}
        return await self.client.post(f"{CODEGEN}/resume", json=given, headers=self.headers(who))

    async def approval_of(self, run: JsonObject) -> JsonObject:
        """Return the one approval of the run."""
        response = await self.client.get("/approvals", params={"run_id": run["run_id"]}, headers=self.headers("root"))
        assert response.status_code == 200, response.text
        (found,) = response.json()["data"]
        return dict(found)

    async def resolve(
        self, who: str, run: JsonObject, status: str = "approved", key: str | None = None, **body: object
    ) -> httpx.Response:
        """Decide the run's one approval."""
        approval = await self.approval_of(run)
        return await self.client.post(
            f"/approvals/{approval['id']}/resolve", json={"status": status, **body}, headers=self.headers(who, key)
        )

    async def audit(self, who: str = "root", **query: object) -> list[JsonObject]:
        """Return the audit trail as AgentOS's API shows it, oldest first."""
        asked = {name: str(value) for name, value in query.items()}
        response = await self.client.get("/audit", params=asked, headers=self.headers(who))
        assert response.status_code == 200, response.text
        listed: list[JsonObject] = response.json()["data"]
        return listed[::-1]

    async def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row of every table but when tokens were used and what requests were counted."""
        rows = await asyncio.to_thread(Place(self.application.settings.database_url).dump)
        return {name: found for name, found in rows.items() if name not in {"tokens", "rate_counts"}}

    def refusal(self, response: httpx.Response, status: int) -> str:
        """Return what a refusal of this status says, in the shape of its API."""
        assert response.status_code == status, response.text
        body = response.json()
        if "/v1/" in str(response.request.url):
            assert body["status_code"] == status
            return str(body["message"])
        return str(body["detail"])


class SharedClock(SettableClock):
    """One that a PostgreSQL database goes by, too."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._database = DatabaseClock(url)
        self._database.show(self.now())

    def move(self, seconds: float) -> None:
        """Let time pass, here and there."""
        super().move(seconds)
        self._database.show(self.now())


def clock_of(url: str) -> SettableClock:
    """Return a clock to be moved, on PostgreSQL with the database's; make it before the server connects."""
    return SettableClock() if url.startswith("sqlite") else SharedClock(url)


@asynccontextmanager
async def at_bank(
    url: str,
    folder: Path,
    earlier: Bank | None = None,
    gates: Gates | None = None,
    **changes: object,
) -> AsyncIterator[Bank]:
    """Serve the agent on a database; with the ``earlier`` bank of it this is a restart."""
    clock = earlier.clock if earlier is not None else clock_of(url)
    executed: list[str] = []
    usual: dict[str, object] = {
        "database_url": url,
        "sweep_seconds": 3600.0,
        "dev": False,
        "user_isolation": False,
        **{f"rate_limit_{kind}": "" for kind in ("create", "read", "logs", "resume", "change")},
    }
    settings = settings_for(folder, **{**usual, **changes})
    drivers = [PydanticAIDriver(bank_agent(executed, gates or Gates()), driver_options(settings))]
    application = build_application(settings, drivers, clock=clock)
    async with application.running():
        tokens = earlier.tokens if earlier is not None else await application.database.write(_make_tokens(clock))
        transport = httpx.ASGITransport(app=create_app(application), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield Bank(client, application, clock, tokens, executed)


def _make_tokens(clock: SettableClock) -> Any:  # noqa: ANN401 - a unit of work
    def unit(connection: Connection) -> dict[str, str]:
        other, operator = add_organization(connection, "Rivals", clock.now()), Principal(1, "operator", via="cli")
        return {
            who: make_token(
                connection,
                NewToken(
                    organization_id=other if who == "rival" else 1,
                    user_id=None if who == "service" else who,
                    scopes=scopes,
                ),
                operator,
                clock.now(),
            )[1]
            for who, scopes in PEOPLE.items()
        }

    return unit
