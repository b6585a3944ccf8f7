"""A server that asks everybody for a token: its organizations, their people, and everything that is in its database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import jwt
from cryptography.fernet import Fernet
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from sqlalchemy import insert

from tests.support.database_clock import stop_clock
from tests.support.databases import dump
from tests.support.gates import Gates
from tests.support.office import JsonObject, SettableClock, body_of, office_agent
from tests.support.serving import ADDRESS, settings_for
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.api.app import create_app
from unpause.auth.tokens import NewToken, make_token
from unpause.bootstrap import Application, build_application
from unpause.domain.principal import Principal
from unpause.domain.runs import Run, RunStatus
from unpause.factories import driver_options
from unpause.store.runs import find_by_key, list_unfinished
from unpause.store.tables import organizations

if TYPE_CHECKING:
    from fastapi import FastAPI

    from unpause.store.engine.database import Connection

Dump: TypeAlias = dict[str, list[dict[str, Any]]]

# Seconds for anything that is waited for. Reached only when something is wrong.
DEADLINE = 60.0

_JWT_KEY = "a secret for tests that is long enough for HS256"
# One for all servers: what one of them encrypted another one has to read.
_ENCRYPTION_KEY = Fernet.generate_key().decode()
_UNSETTLED = (RunStatus.PENDING, RunStatus.RUNNING)
_RATES = ("create", "read", "logs", "resume", "change", "setup", "webhook_test")


@dataclass(frozen=True)
class Person:
    """Somebody with a token, a JWT, or whatever else ``authorization`` is sent."""

    client: httpx.AsyncClient
    authorization: str

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        **content: Any,  # noqa: ANN401
    ) -> httpx.Response:
        """Send a request; ``content`` is httpx's own."""
        sent = {"Authorization": self.authorization, **(headers or {})}
        async with asyncio.timeout(DEADLINE):
            return await self.client.request(method, path, headers=sent, **content)

    async def get(self, path: str, **query: object) -> httpx.Response:
        """Read something."""
        return await self.ask("GET", path, params={name: str(value) for name, value in query.items()})

    async def form(self, path: str, key: str | None = None, **fields: str) -> httpx.Response:
        """Send a form to AgentOS's API, for an answer that is no stream; ``key`` is its Idempotency-Key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.ask("POST", path, headers, data={"stream": "false", **fields})

    async def post(self, path: str, body: object = None, key: str | None = None) -> httpx.Response:
        """Send JSON; ``key`` is its Idempotency-Key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.ask("POST", path, headers, json=body)

    async def run(self, message: str, agent: str = "office", **fields: str) -> JsonObject:
        """Make a run and return it as it is when it pauses or ends."""
        return body_of(await self.form(f"/agents/{agent}/runs", message=message, **fields))


@dataclass(frozen=True)
class Guarded:
    """One server with the agents ``office`` and ``parrot``; ``executed`` is what the office's tools did."""

    app: FastAPI
    application: Application
    client: httpx.AsyncClient
    clock: SettableClock
    gates: Gates
    executed: list[str] = field(default_factory=list)

    async def add_organization(self, number: int, name: str) -> None:
        """Make an organization of this number."""
        row = {"id": number, "name": name, "created_at": self.clock.now()}
        await self.application.database.write(lambda connection: connection.execute(insert(organizations), [row]))

    async def person(self, organization: int, user: str | None, *scopes: str) -> Person:
        """Return somebody of the organization with a new token; without scopes they have the usual ones."""
        wanted = NewToken(organization_id=organization, user_id=user, name=f"{user} at work")
        if scopes:
            wanted = NewToken(organization_id=organization, user_id=user, name=f"{user} at work", scopes=scopes)
        by = Principal(organization, "tests", via="cli")
        now = self.clock.now()
        _, text = await self.application.database.write(lambda connection: make_token(connection, wanted, by, now))
        return self.holder(text)

    def holder(self, text: str) -> Person:
        """Return whoever has the token."""
        return Person(self.client, f"Bearer {text}")

    def by_jwt(self, organization: int, user: str | None, scopes: list[str], **claims: object) -> Person:
        """Return somebody with a JWT that is valid for a day; without a user it has no subject."""
        said = {"organization_id": organization, "scopes": scopes, **({"sub": user} if user else {}), **claims}
        until = self.clock.now().timestamp() + 86_400
        return self.holder(jwt.encode({"exp": until, **said}, _JWT_KEY, algorithm="HS256"))

    async def rows(self) -> Dump:
        """Return every row of every table."""

        def unit(connection: Connection) -> Dump:
            return dump(connection)

        return await self.application.database.read(unit)

    async def settle(self, organization: int) -> None:
        """Wait until no run of the organization is executed or about to be."""

        def unit(connection: Connection) -> list[Run]:
            keys = [key for status in _UNSETTLED for key in list_unfinished(connection, status)]
            found = [find_by_key(connection, key) for key in keys]
            return [run for run in found if run is not None and run.organization_id == organization]

        async with asyncio.timeout(DEADLINE):
            while unsettled := await self.application.database.read(unit):
                for run in unsettled:
                    async for _ in self.application.follower.attach(run, run.last_sequence):
                        pass


@asynccontextmanager
async def guarded(
    folder: Path, database_url: str | None = None, gates: Gates | None = None, **changes: object
) -> AsyncIterator[Guarded]:
    """Serve on a database, by default one in ``folder``; the same one again is a restart.

    Time stands still unless a test moves it, and nothing is swept after the start.
    """
    clock, gates = SettableClock(), gates or Gates()
    executed: list[str] = []
    if database_url is not None:
        # Time stands still there, too.
        stop_clock(database_url, clock.now())
    settings = settings_for(
        folder,
        **{
            **({"database_url": database_url} if database_url is not None else {}),
            "dev": False,
            "jwt_algorithm": "HS256",
            "jwt_key": _JWT_KEY,
            "encryption_key": _ENCRYPTION_KEY,
            "sweep_seconds": 3600.0,
            **{f"rate_limit_{name}": "" for name in _RATES},
            **changes,
        },
    )
    options = driver_options(settings)
    drivers = [PydanticAIDriver(agent, options) for agent in (office_agent(executed, gates), parrot())]
    application = build_application(settings, drivers, clock=clock)
    app = create_app(application)
    async with application.running():
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield Guarded(app, application, client, clock, gates, executed)


def parrot() -> Agent[None, str]:
    """Return an agent that repeats every word of users that it is given, those of earlier runs too."""

    async def repeat(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        del info
        parts = [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]
        yield " | ".join(str(part.content) for part in parts if isinstance(part, UserPromptPart))

    return Agent(FunctionModel(stream_function=repeat, model_name="parrot-1"), name="parrot")
