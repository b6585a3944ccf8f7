"""Every route of the server, asked by everybody who may come: nobody gets in where they do not belong."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any, Final

import pytest
import pytest_asyncio
from fastapi import APIRouter
from fastapi.routing import iter_route_contexts

from tests.access.expected import Answer, filled_in
from tests.access.route_table import (
    ADMIN,
    AGENTOS,
    CODEGEN,
    CODEGEN_FOREIGN,
    CODEGEN_UNKNOWN,
    EXPIRED,
    INVALID,
    MISSING,
    NATIVE,
    TABLE,
    Row,
    scope_missing,
)
from tests.support.caller import body_of
from tests.support.full import IS_FULL
from tests.support.published import read_document
from tests.support.server import Server, User, served
from tests.support.toolbox import plan
from unpause.api.errors import AgnoRoute
from unpause.api.permissions import CONSOLE_PATH, PUBLIC
from unpause.auth.tokens import NewToken, create_token, revoke_token
from unpause.domain.principal import Principal

CANARY = "canary"
KNOWN = (
    *("agents:read", "agents:run", "approvals:read", "approvals:write", "approvals:delete"),
    *("sessions:read", "sessions:write", "sessions:delete", "system:read", "users:read", "setup:run"),
    "finance:approve",
)
GUARDED = {**AGENTOS, **NATIVE, **CODEGEN}
OF_ORGANIZATION = sorted(route for route in CODEGEN if "{org_id}" in route)
_NUMBERS = count(2)
# Where a row of the table has the name of a thing, and the names that come with a session.
_NAME: Final = re.compile(r"\{(\w+)\}")
_OF_SESSION: Final = frozenset({"session_id", "session_name"})
# One piece of code looks at what is sent, so in the short form each route gets nothing and a token that was revoked;
# on these routes, one of each API, somebody comes with each kind.
_ALL_KINDS: Final = frozenset({"GET /agents", "GET /inbox", "GET /v1/organizations/{org_id}/agent/runs"})

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class World:
    """One server with the runs of Alice, who is of organization 1, and everybody who comes to ask for them."""

    server: Server
    people: dict[tuple[str, tuple[str, ...]], User] = field(default_factory=dict)
    nobodies: dict[str, tuple[str | None, Answer]] = field(default_factory=dict)
    things: dict[str, object] = field(default_factory=dict)
    channels: list[int] = field(default_factory=list)
    reader: tuple[User, int] | None = None

    async def person(self, user: str, scopes: tuple[str, ...]) -> User:
        """Return somebody of organization 1 with just these scopes, the same one again."""
        found = self.people.get((user, scopes))
        if found is None:
            found = self.people[user, scopes] = await self.new_person(1, user, scopes)
        return found

    async def new_person(self, organization: int, user: str, scopes: tuple[str, ...], **changes: Any) -> User:  # noqa: ANN401
        """Return somebody with a new token."""
        wanted = NewToken(organization_id=organization, user_id=user, scopes=scopes, **changes)
        now = self.server.clock.now() - timedelta(hours=1)
        by = Principal(organization, "tests", via="cli")
        _, text = await self.server.application.database.write(
            lambda connection: create_token(connection, wanted, by, now)
        )
        return self.server.user(text)

    async def stranger(self, *, is_new: bool) -> tuple[User, int]:
        """Return the administrator of another organization, and its number: a new one, or one that changes nothing."""
        if is_new or self.reader is None:
            number = next(_NUMBERS)
            await self.server.add_organization(number, f"organization {number}")
            found = await self.new_person(number, "stranger", ADMIN), number
            if is_new:
                return found
            self.reader = found
        return self.reader

    async def unknown(self) -> dict[str, tuple[str | None, Answer]]:
        """Return what those send who have no token that counts, and what they are to hear."""
        self.nobodies = self.nobodies or await self._unknown()
        return self.nobodies

    async def _unknown(self) -> dict[str, tuple[str | None, Answer]]:
        expired = await self.new_person(1, "alice", ADMIN, lifetime=timedelta(minutes=59))
        revoked = await self.new_person(1, "alice", ADMIN)
        public = revoked.authorization.removeprefix("Bearer unp_").partition(".")[0]
        now = self.server.clock.now()
        await self.server.application.database.write(
            lambda connection: revoke_token(connection, public, Principal(1, via="cli"), now)
        )
        right = (await self.person("alice", ADMIN)).authorization
        return {
            "none": (None, MISSING),
            "basic": ("Basic YWxpY2U6Y2FuYXJ5", MISSING),
            "garbage": ("Bearer garbage", replace(INVALID, body={"detail": ...})),
            "of our shape": (f"Bearer unp_AAAAAAAA.{'A' * 43}", INVALID),
            "wrong secret": (f"{right[:-4]}AAAA", INVALID),
            "expired": (expired.authorization, EXPIRED),
            "revoked": (revoked.authorization, INVALID),
        }

    async def fresh(self, needed: set[str]) -> dict[str, object]:
        """Return the names of new things of Alice's, of those kinds that are needed."""
        alice, admin = await self.person("alice", KNOWN), await self.person("olga", ADMIN)
        # Lists find parts of names, too.
        session = f"session-{next(_NUMBERS):05}"
        found: dict[str, object] = {}
        if needed & {"run_id", "tool_call_id", "agent_run_id", "requirement_id", "held", "approval_id", *_OF_SESSION}:
            found |= await self._paused(alice, admin, session)
        if "decided" in needed:
            found["decided"] = await self._decided(alice, admin, session)
        if needed & {"grant_id", "granted"}:
            found |= await self._granted(alice, session)
        if "token_id" in needed:
            made = body_of(await admin.post("/tokens", {"name": "of nobody"}))
            found["token_id"] = made["token"]["token_id"]
        return found

    async def _paused(self, alice: User, admin: User, session: str) -> dict[str, object]:
        """Return the names of a session with a paused run and one that is held by an approval."""
        run = await alice.create(plan([("delete_file", {"path": CANARY})]), session_id=session)
        held = await alice.create(plan([("deploy", {"env": CANARY})]), session_id=session)
        [waiting] = body_of(await admin.get("/approvals", run_id=held["run_id"]))["data"]
        name = f"{CANARY} {session}"
        body_of(await alice.request("PATCH", f"/sessions/{session}", json={"session_name": name}))
        codegen = body_of(await admin.get("/v1/organizations/1/agent/runs"))["items"]
        return {
            "run_id": run["run_id"],
            "tool_call_id": run["tools"][0]["tool_call_id"],
            "agent_run_id": next(each["id"] for each in codegen if each["web_url"].endswith(run["run_id"])),
            "session_id": session,
            "session_name": name,
            "held": held["run_id"],
            "approval_id": waiting["id"],
            "requirement_id": run["requirements"][0]["id"],
        }

    async def _decided(self, alice: User, admin: User, session: str) -> str:
        """Return the name of a run whose approval was rejected."""
        decided = await alice.create(plan([("deploy", {"env": CANARY})]), session_id=f"{session}-decided")
        [settled] = body_of(await admin.get("/approvals", run_id=decided["run_id"]))["data"]
        body_of(await admin.post(f"/approvals/{settled['id']}/resolve", {"status": "rejected"}))
        return str(decided["run_id"])

    async def _granted(self, alice: User, session: str) -> dict[str, object]:
        """Return the names of a decision that is remembered, and of its session."""
        granted = await alice.create(plan([("publish", {"path": CANARY})]), session_id=f"{session}-granted")
        grant = granted["requirements"][0]["id"]
        remembered = {"decision": "approve", "remember": {"scope": "session"}}
        body_of(await alice.post(f"/inbox/{grant}/decide", remembered))
        await alice.settled(granted)
        return {"grant_id": grant, "granted": f"{session}-granted"}

    async def _all(self) -> dict[str, object]:
        """Return the names of things of every kind."""
        admin = await self.person("olga", ADMIN)
        found = await self.fresh({*_OF_SESSION, "decided", "granted", "token_id"})
        users = body_of(await admin.get("/v1/organizations/1/users"))["items"]
        return {
            **found,
            "agent_id": "toolbox",
            "user_id": next(each["id"] for each in users if each["github_username"] == "alice"),
            "prompt_number": 0,
            "image_number": 0,
            "org_id": 1,
            "home": 1,
            "me": "alice",
        }

    async def named(self, route: str) -> dict[str, object]:
        """Return things for a request to the route: new ones where it may change them."""
        admin = await self.person("olga", ADMIN)
        if "webhooks" in route:
            # Nothing is sent to it.
            hook = {"url": "https://hooks.example/1", "enabled": False}
            body_of(await admin.post("/v1/organizations/1/webhooks/agent-run", hook))
        channel = await self._channel(is_new=route.startswith("DELETE /notifications"))
        self.things = self.things or await self._all()
        is_read = route.startswith("GET ")
        found = {} if is_read else await self.fresh(set(_NAME.findall(f"{route} {TABLE[route]}")))
        pending = body_of(await admin.get("/approvals/count"))["count"]
        return {**self.things, **found, **channel, "pending": pending}

    async def _channel(self, *, is_new: bool) -> dict[str, object]:
        """Return the first channel of Alice's, of two, or a new one; they tell nothing that a test does."""
        alice = await self.person("alice", ())
        channel = {"url": "json://127.0.0.1:9/", "events": ["failed"]}
        while is_new or len(self.channels) < 2:
            added = body_of(await alice.post("/notifications/channels", channel), 201)["channel_id"]
            if is_new:
                return {"channel_id": added}
            self.channels.append(added)
        return {"channel_id": self.channels[0]}

    async def ask(self, route: str, authorization: str | None, names: Mapping[str, object]) -> Any:  # noqa: ANN401
        """Send the request of the row to the route; fail where its answer is not in the OpenAPI document."""
        method, _, path = route.partition(" ")
        row = TABLE[route]
        content: dict[str, Any] = {"params": filled_in(dict(row.query), names)}
        if row.form is not None:
            content["data"] = filled_in(dict(row.form), names)
        if row.json is not None:
            content["json"] = filled_in(row.json, names)
        headers = {} if authorization is None else {"Authorization": authorization}
        response = await self.server.client.request(method, filled_in(path, names), headers=headers, **content)
        documented = read_document()["paths"].get(path)
        assert documented is None or str(response.status_code) in documented[method.lower()]["responses"]
        return response


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with served(tmp_path_factory.mktemp("routes"), tokens={}) as server:
        yield World(server)


def routes_of(server: Server) -> set[str]:
    """Return every route of the application, whether its documents show it or not."""
    return {
        f"{method} {(route.path or '').replace(':path}', '}')}"
        for route in iter_route_contexts(server.app.routes)
        for method in (route.methods or ())
        if method != "HEAD"
    }


async def test_every_route_has_a_row_and_every_row_a_route(world: World) -> None:
    assert routes_of(world.server) == set(TABLE)
    documented = {
        f"{method.upper()} {path}" for path, operations in read_document()["paths"].items() for method in operations
    }
    assert documented <= set(TABLE)
    pages = {route for route in TABLE if route.partition(" ")[2].startswith(CONSOLE_PATH)}
    assert set(GUARDED) >= _ALL_KINDS
    assert set(TABLE) - documented == pages | {f"GET {path}" for path in PUBLIC - {"/", "/health", "/ready"}}


async def test_a_route_that_nobody_said_who_may_use_does_not_start() -> None:
    router = APIRouter(route_class=AgnoRoute)

    async def tell() -> None:
        """Tell secrets."""

    with pytest.raises(KeyError, match="GET /secrets"):
        router.add_api_route("/secrets", tell)


@pytest.mark.parametrize("route", sorted(set(TABLE) - set(GUARDED)))
async def test_a_public_route_answers_everybody_the_same(world: World, route: str) -> None:
    for authorization, _ in (await world.unknown()).values():
        TABLE[route].done.compare(await world.ask(route, authorization, {}), {})


@pytest.mark.parametrize("route", sorted(GUARDED))
async def test_nobody_gets_in_without_a_token_that_counts(world: World, route: str) -> None:
    unknown, names = await world.unknown(), await world.named("GET ")
    async with world.server.nothing_changes():
        for kind, (authorization, answer) in unknown.items():
            if not IS_FULL and route not in _ALL_KINDS and kind not in {"none", "revoked"}:
                continue
            response = await world.ask(route, authorization, names)
            (CODEGEN_UNKNOWN if route in CODEGEN else answer).compare(response, names)
            assert "www-authenticate" not in response.headers


@pytest.mark.parametrize("route", sorted(route for route, row in GUARDED.items() if row.scopes))
async def test_every_other_scope_is_not_the_one_that_is_missing(world: World, route: str) -> None:
    row, names = GUARDED[route], await world.named("GET ")
    without = await world.person("alice", tuple(scope for scope in KNOWN if scope not in row.scopes))
    nothing = await world.person("alice", ())
    async with world.server.nothing_changes():
        for person in (without, nothing):
            response = await world.ask(route, person.authorization, names)
            scope_missing(route.partition(" ")[2], row.scopes[0]).compare(response, names)


@pytest.mark.parametrize("route", sorted(GUARDED))
async def test_each_right_scope_alone_opens_the_route(world: World, route: str) -> None:
    row = GUARDED[route]
    alone: list[tuple[str, ...]] = [(scope,) for scope in row.scopes]
    for scopes in alone or [()]:
        person = await world.person("alice", scopes)
        names = await world.named(route)
        row.done.compare(await world.ask(route, person.authorization, names), names)
        await world.server.settle(1)


@pytest.mark.parametrize("route", sorted(GUARDED))
async def test_an_administrator_may_do_it_with_what_others_have(world: World, route: str) -> None:
    person, names = await world.person("olga", ADMIN), await world.named(route)
    names = {**names, "me": "olga"}
    if route == "POST /agents/{agent_id}/runs":
        # A session has one owner; this one is Alice's.
        names = {**names, "session_id": f"{names['session_id']}-of-olga"}
    row = GUARDED[route]
    (row.admin or row.done).compare(await world.ask(route, person.authorization, names), names)
    await world.server.settle(1)


@pytest.mark.parametrize("route", sorted(GUARDED))
async def test_to_an_administrator_of_another_organization_nothing_of_it_is_there(world: World, route: str) -> None:
    row, names = GUARDED[route], await world.named("GET ")
    stranger, home = await world.stranger(is_new=not route.startswith("GET "))
    before = of_first(await world.server.lasting())
    there = {**names, "me": "stranger", "home": home, "org_id": home, "session_name": "session"}
    response = await world.ask(route, stranger.authorization, there)
    row.stranger.compare(response, there)
    assert CANARY not in response.text
    await world.server.settle(home)
    assert of_first(await world.server.lasting()) == before


@pytest.mark.parametrize("route", OF_ORGANIZATION)
async def test_the_path_of_another_organization_is_refused_as_such(world: World, route: str) -> None:
    names = await world.named("GET ")
    stranger, _ = await world.stranger(is_new=False)
    async with world.server.nothing_changes():
        CODEGEN_FOREIGN.compare(await world.ask(route, stranger.authorization, names), names)
        # One that does not exist is answered the same.
        unheard = {**names, "org_id": 2**62}
        CODEGEN_FOREIGN.compare(await world.ask(route, stranger.authorization, unheard), unheard)


def of_first(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return what organization 1 has in the tables that say whose a row is, and what any run waits for."""
    return {
        table: [row for row in found if row.get("organization_id", 1) == 1]
        for table, found in rows.items()
        if table in {"requirements", "approvals"}
        or (table != "tokens" and all("organization_id" in row for row in found))
    }


async def test_the_table_knows_no_scope_that_is_not_known() -> None:
    asked = {scope for row in TABLE.values() for scope in row.scopes}
    assert asked <= {*KNOWN, *ADMIN}
    assert all(isinstance(row, Row) for row in TABLE.values())
