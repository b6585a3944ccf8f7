"""A database that says nothing, as one does whose machine is frozen, counts as away: nobody waits for it for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import aclosing, closing, suppress

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from unpause.domain.nodes import Node
from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.store.engine import notifications, silence
from unpause.store.engine.database import Database, parse_url
from unpause.store.engine.notifications import listen
from unpause.store.engine.schema import plain_engine
from unpause.store.leases import LeaseKeeper
from unpause.store.nodes import remove_node
from unpause.store.run_queue import read_clock

_SILENT_SECONDS = 90.0
_JUMP_SECONDS = 20.0
_DEADLINE = 20.0
_NODE = Node("one", "node one", "1.0", ("scripted",), 0)

_FIND_CONNECTIONS = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND starts_with(application_name, :name)"
)


class Freezing:
    """Freezes processes of the server that serve one connection each; meanwhile the time of limits runs fast.

    So limits are long for what is not frozen, however loaded the machine is.
    """

    def __init__(self) -> None:
        self._frozen: list[int] = []
        self._ahead = 0.0

    def now(self) -> float:
        """Return the time, which jumps ahead each time that somebody looks."""
        self._ahead += _JUMP_SECONDS if self._frozen else 0.0
        return time.monotonic() + self._ahead

    def freeze(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            self._frozen.append(pid)

    def freeze_named(self, url: str, name: str) -> int:
        """Freeze those of a database whose connections have a name that begins so; return their number."""
        with closing(plain_engine(url).connect()) as connection:
            pids = list(connection.execute(_FIND_CONNECTIONS, {"name": name}).scalars())
        self.freeze(*pids)
        return len(pids)

    def freeze_own(self, connection: Connection) -> None:
        """Be a unit whose server freezes before its last statement, and does not answer that one."""
        self.freeze(int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one()))
        connection.execute(text("SELECT 1"))

    def thaw(self) -> None:
        while self._frozen:
            os.kill(self._frozen.pop(), signal.SIGCONT)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Freezing]:
    """Yield what freezes, and thaw it at the end."""
    freezing = Freezing()
    monkeypatch.setattr(silence, "monotonic", freezing.now)
    yield freezing
    freezing.thaw()


async def test_a_database_that_does_not_answer_in_time_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://somebody@127.0.0.1:{silent.getsockname()[1]}/nothing?connect_timeout=2"
        async with Database(url).opened() as database:
            failures = await asyncio.gather(
                database.read(read_clock), database.write(read_clock), return_exceptions=True
            )
    assert [type(failure) for failure in failures] == [DatabaseUnavailable] * 2


@pytest.mark.parametrize("kind", ["read", "write", "append", "execute"])
async def test_a_statement_that_is_under_way_when_the_server_freezes_fails_and_the_next_gets_another_connection(
    postgres_url: str, server: Freezing, kind: str
) -> None:
    database = Database(postgres_url, silent_seconds=_SILENT_SECONDS)
    async with asyncio.timeout(_DEADLINE), database.opened():
        with pytest.raises(DatabaseUnavailable):
            await getattr(database, kind)(server.freeze_own)
        server.thaw()
        assert await getattr(database, kind)(read_clock)
        assert database.count_connections()[0] == 0


@pytest.mark.full
async def test_no_wait_is_longer_than_the_limit_however_many_share_the_connections(postgres_url: str) -> None:
    """Half of them wait for a connection first, or behind others for a commit."""
    freezing, database = Freezing(), Database(postgres_url, connections=3, silent_seconds=3.0)
    is_frozen = asyncio.Event()

    def unit(connection: Connection) -> None:
        connection.execute(text("SELECT pg_sleep(0.02)"))
        read_clock(connection)

    async def use(kind: str) -> float:
        while True:
            began = time.monotonic()
            with suppress(DatabaseUnavailable):
                await getattr(database, kind)(unit)
            if is_frozen.is_set():
                return time.monotonic() - began

    try:
        async with asyncio.timeout(_DEADLINE), database.opened():
            using = [asyncio.create_task(use(kind)) for kind in ("read", "write", "append", "execute") * 3]
            await asyncio.sleep(0.3)
            assert await asyncio.to_thread(freezing.freeze_named, postgres_url, "unpause ") == 3
            is_frozen.set()
            longest = max(await asyncio.gather(*using))
    finally:
        freezing.thaw()
    assert 2.0 < longest < 3.0 + 2.0


@pytest.mark.full
async def test_a_server_that_sends_something_or_waits_for_a_lock_is_not_silent(postgres_url: str) -> None:
    def work(connection: Connection) -> int:
        rows = "SELECT pg_sleep(0.5), repeat('a', 9000) FROM generate_series(1, 5)"
        return len(connection.execute(text(rows)).all())

    database = Database(postgres_url, lock_seconds=0.1, silent_seconds=1.5)
    patient = Database(postgres_url, lock_seconds=2.0, silent_seconds=1.0)
    async with asyncio.timeout(_DEADLINE), database.opened(), patient.opened():
        assert await database.read(work) == 5
        with closing(plain_engine(postgres_url).connect()) as other:
            other.execute(text("LOCK TABLE nodes"))
            with pytest.raises(DatabaseBusy):
                await patient.write(lambda connection: remove_node(connection, "nobody"))


def test_the_thread_that_renews_leases_does_not_wait_for_a_silent_server(postgres_url: str, server: Freezing) -> None:
    with closing(LeaseKeeper(parse_url(postgres_url), silent_seconds=_SILENT_SECONDS)) as keeper:
        keeper.remove_node(_NODE)
        assert server.freeze_named(postgres_url, "unpause ") == 1
        with pytest.raises(DatabaseUnavailable):
            keeper.remove_node(_NODE)
        server.thaw()
        keeper.remove_node(_NODE)


async def test_a_listener_that_is_told_nothing_asks_and_gives_a_silent_server_up(
    postgres_url: str, server: Freezing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "_SILENCE_SECONDS", 0.1)
    async with asyncio.timeout(_DEADLINE), aclosing(listen(parse_url(postgres_url), _SILENT_SECONDS)) as received:
        assert await anext(received) is None
        assert server.freeze_named(postgres_url, "unpause listener ") == 1
        with pytest.raises(DatabaseUnavailable):
            [_ async for _ in received]
