"""What a token has open: streams and requests are counted apart, who is gone frees a place, a revoked token ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.support.caller import DEADLINE, RUNS, body_of
from tests.support.gates import Gates
from tests.support.server import Server, User, served
from unpause.auth.tokens import revoke_token
from unpause.domain.principal import Principal
from unpause.store.tokens import set_expiry

if TYPE_CHECKING:
    from starlette.types import Message


@dataclass
class Connection:
    """One request over ASGI whose client reads what comes, and may go away."""

    server: Server
    person: User
    sent: list[Message] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, method: str, path: str, **form: str) -> None:
        """Ask, and return once all is answered."""
        messages: list[Message] = [{"type": "http.request", "body": urlencode(form).encode(), "more_body": False}]

        async def receive() -> Message:
            if not messages:
                await self.gone.wait()
                return {"type": "http.disconnect"}
            return messages.pop()

        async def send(message: Message) -> None:
            self.sent.append(message)
            self.changed.set()

        fields = {"host": "127.0.0.1", "authorization": self.person.authorization}
        fields["content-type"] = "application/x-www-form-urlencoded"
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        }
        await self.server.app(scope, receive, send)

    async def begun(self) -> int:
        """Return the status once there is one."""
        while not self.sent:
            self.changed.clear()
            await self.changed.wait()
        return int(self.sent[0]["status"])

    async def ended(self) -> None:
        """Wait until the answer is complete."""
        while self.sent[-1].get("more_body", True):
            self.changed.clear()
            await self.changed.wait()

    @property
    def body(self) -> bytes:
        """What was answered until now."""
        return b"".join(message.get("body", b"") for message in self.sent[1:])


@asynccontextmanager
async def requested(server: Server, person: User, method: str, path: str, **form: str) -> AsyncIterator[Connection]:
    """Have a request open during the block, at whose end the client goes away."""
    connection = Connection(server, person)
    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
        tasks.create_task(connection.ask(method, path, **form))
        try:
            yield connection
        finally:
            connection.gone.set()


async def expire(server: Server, person: User) -> None:
    public = person.authorization.removeprefix("Bearer unp_").partition(".")[0]
    now = server.clock.now()
    await server.application.database.write(lambda db: set_expiry(db, public, now))
    server.clock.move(3)


async def revoke(server: Server, person: User) -> None:
    public = person.authorization.removeprefix("Bearer unp_").partition(".")[0]
    now = server.clock.now()
    await server.application.database.write(lambda db: revoke_token(db, public, Principal(1, via="cli"), now))
    # A token that was used just before is remembered for so long.
    server.clock.move(3)


async def test_streams_and_requests_are_counted_apart(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, tokens={}, gates=gates, max_streams=1, max_requests=1) as server:
        anna = await server.add_user(1, "anna")
        async with requested(server, anna, "POST", RUNS, message="hi") as stream:
            assert await stream.begun() == 200
            for path in (RUNS, f"{RUNS}/x/continue"):
                refused = await anna.request("POST", path, data={"message": "hi", "stream": "true"})
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert "1 open streams" in refused.json()["detail"]
            assert len((await server.dump())["runs"]) == 1, "what was refused made no run"
            assert (await anna.get("/agents")).status_code == 200, "a stream takes no request's place"
            gates.open("think")
            run = body_of(await anna.form(RUNS, message="hi"))
            followed = f"{RUNS}/{run['run_id']}"
        assert (await anna.get(f"{followed}/events")).status_code == 200


async def test_a_client_that_is_gone_frees_its_place_and_its_run_goes_on(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, tokens={}, gates=gates, max_requests=1) as server:
        anna = await server.add_user(1, "anna")
        for number in range(1, 4):
            async with requested(server, anna, "POST", RUNS, message="hi", stream="false", session_id="s") as waiting:
                while len((await server.dump())["runs"]) < number:
                    assert not waiting.sent
                refused = await anna.get("/agents")
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                waiting.gone.set()
        # None of the three has ended.
        await gates.reached("think")
        runs = (await anna.get(RUNS, session_id="s")).json()
        assert len(runs) == 3
        assert {run["status"] for run in runs} <= {"PENDING", "RUNNING"}
        gates.open("think")
        for run in runs:
            await anna.get(f"{RUNS}/{run['run_id']}/events")
        assert {run["status"] for run in (await anna.get(RUNS, session_id="s")).json()} == {"COMPLETED"}


@pytest.mark.parametrize("expires", [True, False], ids=["expired", "revoked"])
async def test_a_stream_ends_when_its_token_counts_no_more(tmp_path: Path, *, expires: bool) -> None:
    gates = Gates("think")
    async with served(tmp_path, tokens={}, gates=gates, keepalive_seconds=0.2) as server:
        anna, bert = await server.add_user(1, "anna"), await server.add_user(1, "bert")
        async with (
            requested(server, anna, "POST", RUNS, message="hi") as stream,
            requested(server, bert, "POST", RUNS, message="hi") as other,
            requested(server, anna, "POST", RUNS, message="hi", stream="false") as waiting,
        ):
            assert await stream.begun() == await other.begun() == 200
            await gates.reached("think")
            if expires:
                await expire(server, anna)
            else:
                await revoke(server, anna)
            await stream.ended()
            # It ended by itself, and cleanly: the run goes on.
            assert b"RunCompleted" not in stream.body
            assert other.sent[-1]["more_body"]
            gates.open("think")
            assert await waiting.begun() == 401
            await other.ended()
        assert b"RunCompleted" in other.body
