"""A server in the test's own process, spoken to over ASGI through both APIs.

``served`` has an option for whatever a test needs of it; what it yields can send every kind of request.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import jwt
from cryptography.fernet import Fernet
from pydantic_ai import Agent
from sqlalchemy import insert

from tests.support.caller import DEADLINE, Caller, body_of
from tests.support.database_clock import stop_clock
from tests.support.databases import dump, lasting
from tests.support.gates import Gates
from tests.support.published import CHECKED
from tests.support.serving import ADDRESS, application_for, settings_for
from tests.support.toolbox import JsonObject, toolbox_agent
from unpause.agents.driver import AgentDriver
from unpause.api.app import create_app
from unpause.auth.tokens import NewToken, create_token
from unpause.bootstrap import Application
from unpause.domain.principal import Principal
from unpause.domain.runs import Run, RunStatus
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.store.run_lists import list_unfinished
from unpause.store.runs import find_by_key
from unpause.store.tables import organizations
from unpause.store.users import add_organization
from unpause.streaming.bus import InProcessBus
from unpause.testing.environment import ManualClock

if TYPE_CHECKING:
    from fastapi import FastAPI
    from sqlalchemy import Connection

    from unpause.domain.events import EventType

Dump: TypeAlias = dict[str, list[dict[str, Any]]]

JWT_KEY = "a secret for tests that is long enough for HS256"
_DECIDES = (*DEFAULT_SCOPES, "approvals:write", "approvals:delete")

# Users with tokens, and their scopes. `service` acts for the user that each request names; `rival` is the
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
_BUCKETS = ("create", "read", "logs", "resume", "change", "setup", "webhook_test", "sign_in", "ag_ui")
_UNSETTLED = (RunStatus.PENDING, RunStatus.RUNNING)
# What servers with tokens have in common; what one of them encrypted another one has to read.
_WITH_TOKENS: Mapping[str, object] = MappingProxyType(
    {
        "dev": False,
        "jwt_algorithm": "HS256",
        "jwt_key": JWT_KEY,
        "encryption_key": Fernet.generate_key().decode(),
        **{f"rate_limit_{bucket}": "" for bucket in _BUCKETS},
    }
)


class SettableClock(ManualClock):
    """A clock that stands still until it is moved, and with it the clock of a database that has its own."""

    def __init__(self, now: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        super().__init__(now)
        self._database_url: str | None = None

    def set_database(self, url: str) -> None:
        """Have the database's clock show the same from now on; call it before a server connects."""
        self._database_url = url
        stop_clock(url, self._now)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        super().move(seconds)
        if self._database_url is not None:
            stop_clock(self._database_url, self._now)


class Rows:
    """The rows of a database; after a request that wrote nothing they are not read again."""

    def __init__(self, url: str) -> None:
        # Another database than SQLite does not say whether it was written to.
        file = url.removeprefix("sqlite:///")
        self._connection = sqlite3.connect(file) if file != url else None
        self._version = 0
        self._found: Dump = {}

    async def latest(self, read: Callable[[], Awaitable[Dump]]) -> Dump:
        """Return the lasting rows of what this reads."""
        # Before it is read: what is written meanwhile is read the next time.
        version = self._connection and self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version is None or version != self._version:
            self._found = lasting(await read())
            self._version = version or 0
        return self._found

    def close(self) -> None:
        """Close the connection that looks whether somebody has written."""
        if self._connection is not None:
            self._connection.close()


@dataclass(frozen=True)
class Server(Caller):
    """One server. It sends requests of its own, too: as the administrator ``root`` where tokens are needed."""

    app: FastAPI = field(kw_only=True)
    clock: SettableClock = field(kw_only=True)
    gates: Gates = field(kw_only=True)
    executed: list[str] = field(kw_only=True)
    tokens: Mapping[str, str] = field(kw_only=True)
    rows: Rows = field(kw_only=True)

    def user(self, who: str) -> User:
        """Return one of ``PEOPLE``, or the holder of this token or JWT."""
        return User(self.client, self.application, f"Bearer {self.tokens.get(who, who)}", server=self)

    def by_jwt(self, user: str | None, *scopes: str, organization: int = 1, **claims: object) -> User:
        """Return somebody with a JWT that is valid for a day; without a user it has no subject."""
        sent = {"organization_id": organization, "scopes": scopes, **({"sub": user} if user else {}), **claims}
        until = self.clock.now().timestamp() + 86_400
        return self.user(jwt.encode({"exp": until, **sent}, JWT_KEY, algorithm="HS256"))

    async def add_organization(self, number: int, name: str) -> None:
        """Add an organization with this number."""
        row = {"id": number, "name": name, "created_at": self.clock.now()}
        await self.application.database.write(lambda connection: connection.execute(insert(organizations), [row]))

    async def add_user(self, organization: int, user: str | None, *scopes: str) -> User:
        """Return somebody of the organization with a new token; without scopes they have the usual ones."""
        now = self.clock.now()
        return self.user(
            await self.application.database.write(
                lambda connection: _new_token(connection, organization, user, scopes or DEFAULT_SCOPES, now)
            )
        )

    async def dump(self) -> Dump:
        """Return every row of every table."""
        return await self.application.database.read(dump)

    @asynccontextmanager
    async def nothing_changes(self) -> AsyncIterator[None]:
        """Fail unless the block leaves every row as it was and runs no tool."""
        before, executed = await self.lasting(), list(self.executed)
        yield
        assert await self.lasting() == before
        assert self.executed == executed

    async def lasting(self) -> Dump:
        """Return every row, without what the server writes on its own: to compare before and after a request."""
        return await self.rows.latest(self.dump)

    async def refused(self, run: JsonObject, tools: object, **form: str) -> tuple[int, JsonObject]:
        """Continue a run in a way that must not work; return status and body, once nothing changed."""
        async with self.nothing_changes():
            response = await self.post_continue(run, tools, **form)
        assert 400 <= response.status_code < 500, response.text
        return response.status_code, body_of(response, response.status_code)

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


@dataclass(frozen=True)
class User(Caller):
    """Somebody with a token or a JWT."""

    server: Server = field(kw_only=True)

    def as_administrator(self) -> Caller:
        """Return the server's administrator, if it has one."""
        return self.server if self.server.authorization else self


@asynccontextmanager
async def served(
    folder: Path,
    *agents: Agent[Any, Any] | AgentDriver,
    clock: SettableClock | None = None,
    gates: Gates | None = None,
    tokens: Mapping[str, str] | bool = False,
    **settings: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Server]:
    """Serve agents during the block, by default ``toolbox`` and one like it called ``other``.

    The same folder and clock again are a restart. The database is SQLite in ``folder`` unless ``database_url`` is
    set. Time stands still and nothing is swept unless the test says so.

    Args:
        folder: Where the database is.
        agents: Agents or drivers to serve.
        clock: The clock of the server.
        gates: Where the toolbox stands still.
        tokens: Whether everybody needs a token: those of ``PEOPLE`` are made, or are these of the server before a
            restart. Without, everybody is an administrator.
        settings: Any setting.
    """
    clock, gates, executed = clock or SettableClock(), gates or Gates(), list[str]()
    usual = {"sweep_seconds": 3600.0, **(_WITH_TOKENS if tokens is not False else {})}
    chosen = settings_for(folder, **{**usual, **settings})
    if not chosen.database_url.startswith("sqlite"):
        clock.set_database(chosen.database_url)
    application = application_for(
        chosen, agents or [toolbox_agent(executed, gates, name) for name in ("toolbox", "other")], clock
    )
    app = create_app(application)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url=ADDRESS, event_hooks=CHECKED)
    async with application.running(), client:
        with closing(Rows(chosen.database_url)) as rows:
            made = await _tokens_of_people(application, clock.now()) if tokens is True else tokens or {}
            yield Server(
                client,
                application,
                f"Bearer {made['root']}" if made else "",
                app=app,
                clock=clock,
                gates=gates,
                executed=executed,
                tokens=made,
                rows=rows,
            )


async def _tokens_of_people(application: Application, now: datetime) -> dict[str, str]:
    def unit(connection: Connection) -> dict[str, str]:
        rivals = add_organization(connection, "Rivals", now)
        return {
            who: _new_token(connection, rivals if who == "rival" else 1, None if who == "service" else who, scopes, now)
            for who, scopes in PEOPLE.items()
        }

    return await application.database.write(unit)


def _new_token(
    connection: Connection, organization: int, user: str | None, scopes: tuple[str, ...], now: datetime
) -> str:
    expected = NewToken(organization_id=organization, user_id=user, name=f"{user} at work", scopes=scopes)
    return create_token(connection, expected, Principal(organization, "operator", via="cli"), now)[1]
