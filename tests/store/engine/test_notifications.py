"""Words between processes through PostgreSQL: after a commit, to all who listen, and loudly when the line is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

import pytest
from sqlalchemy import Connection

from tests.support.databases import PostgresServer
from tests.support.outages import away, cut_listeners
from unpause.errors import DatabaseUnavailable
from unpause.store.engine import notifications
from unpause.store.engine.database import Database, parse_url
from unpause.store.engine.notifications import LONGEST_PAYLOAD, listen, notify

_DEADLINE = 60


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[AsyncIterator[str | None]]:
    """Listen during the block; when it begins the listening has."""
    async with aclosing(listen(parse_url(url))) as sent:
        assert await next_of(sent) is None
        yield sent


async def next_of(sent: AsyncIterator[str | None]) -> str | None:
    async with asyncio.timeout(_DEADLINE):
        return await anext(sent)


async def test_all_listeners_hear_what_is_said_in_the_order_it_was_committed(postgres_url: str) -> None:
    async with (
        Database(postgres_url).opened() as database,
        listening(postgres_url) as first,
        listening(postgres_url) as second,
    ):
        for word in ("one", "two", "x" * LONGEST_PAYLOAD):
            await database.write(partial(notify, payload=word))
        for listener in (first, second):
            assert [await next_of(listener) for _ in range(3)] == ["one", "two", "x" * LONGEST_PAYLOAD]


async def test_what_is_rolled_back_was_never_said(postgres_url: str) -> None:
    def unit(connection: Connection) -> None:
        notify(connection, "never")
        raise LookupError

    async with Database(postgres_url).opened() as database, listening(postgres_url) as sent:
        with pytest.raises(LookupError):
            await database.write(unit)
        await database.write(partial(notify, payload="said"))
        assert await next_of(sent) == "said"


async def test_a_silent_line_is_tried_and_what_is_said_meanwhile_is_heard(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "_SILENCE_SECONDS", 0.05)
    async with Database(postgres_url).opened() as database, listening(postgres_url) as sent:
        assert [await next_of(sent) for _ in range(3)] == [None] * 3
        # Nobody takes anything from the line now.
        await database.write(partial(notify, payload="meanwhile"))
        async with asyncio.timeout(_DEADLINE):
            while (received := await anext(sent)) is None:
                pass
        assert received == "meanwhile"


async def test_a_cut_line_is_noticed_at_once(postgres: PostgresServer, postgres_url: str) -> None:
    async with listening(postgres_url) as sent:
        hearing = asyncio.create_task(next_of(sent))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(cut_listeners, postgres, postgres_url) == 1
        with pytest.raises(DatabaseUnavailable):
            await hearing


async def test_who_cannot_begin_to_listen_is_told(postgres: PostgresServer, postgres_url: str) -> None:
    with away(postgres, postgres_url):
        async with aclosing(listen(parse_url(postgres_url))) as sent:
            with pytest.raises(DatabaseUnavailable):
                await anext(sent)


async def test_who_stops_listening_leaves_no_connection(postgres: PostgresServer, postgres_url: str) -> None:
    async with listening(postgres_url):
        pass
    assert await asyncio.to_thread(cut_listeners, postgres, postgres_url) == 0
