"""Bare FastAPI apps to compare with: two POST routes and nothing but the transactions of one cycle in them."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, event, insert, select, update
from sqlalchemy.ext.asyncio import create_async_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_TABLE = Table(
    "things", MetaData(), Column("id", Integer, primary_key=True), Column("text", Text), Column("n", Integer)
)
_PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA busy_timeout=5000")


@dataclass(frozen=True, slots=True)
class Work:
    """How many SQLite transactions a request makes: those that write one row, and those that read one."""

    writes: int
    reads: int

    def without_reads(self) -> Work:
        """Return the writing part of it."""
        return Work(self.writes, 0)


class Thing(BaseModel):
    """A row in JSON."""

    id: int
    text: str
    n: int


class NewThing(BaseModel):
    """The body of ``/create``."""

    text: str


class ThingName(BaseModel):
    """The body of ``/continue``."""

    id: int


class Rows(Protocol):
    """Does the transactions of one request."""

    async def opened(self) -> None:
        """Make the table."""
        ...

    async def closed(self) -> None:
        """Let go of the file."""
        ...

    async def add(self, text: str, work: Work) -> Thing:
        """Insert a row, then do the rest of ``work`` on it."""
        ...

    async def change(self, key: int, work: Work) -> Thing:
        """Do ``work`` on a row that is there."""
        ...


class OrdinaryRows:
    """Async SQLAlchemy on aiosqlite as its manual shows it: ``async with engine.begin()`` around one statement."""

    def __init__(self, file: Path) -> None:
        self._engine = create_async_engine(f"sqlite+aiosqlite:///{file}")
        event.listen(self._engine.sync_engine, "connect", _set_pragmas)

    async def opened(self) -> None:
        """Make the table."""
        async with self._engine.begin() as connection:
            await connection.run_sync(_make_table)

    async def closed(self) -> None:
        """Close the pool."""
        await self._engine.dispose()

    async def add(self, text: str, work: Work) -> Thing:
        """Insert a row, then do the rest of ``work`` on it."""
        async with self._engine.begin() as connection:
            added = await connection.execute(insert(_TABLE).values(text=text, n=0).returning(_TABLE.c.id))
            key = int(added.scalar_one())
        return await self.change(key, Work(work.writes - 1, work.reads))

    async def change(self, key: int, work: Work) -> Thing:
        """Do ``work`` on a row that is there."""
        for _ in range(work.writes):
            async with self._engine.begin() as connection:
                await connection.execute(update(_TABLE).where(_TABLE.c.id == key).values(n=_TABLE.c.n + 1))
        row: Any = (key, "", 0)
        for _ in range(work.reads):
            async with self._engine.begin() as connection:
                row = (await connection.execute(select(*_TABLE.c).where(_TABLE.c.id == key))).one()
        return Thing(id=row[0], text=row[1], n=row[2])


class PlainRows:
    """The sqlite3 module on one connection in one thread; a request's statements go there together."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._handle: sqlite3.Connection | None = None

    async def opened(self) -> None:
        """Make the table."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def closed(self) -> None:
        """End the thread, and the connection in it."""
        if self._handle is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._handle.close)
        self._thread.shutdown()

    async def add(self, text: str, work: Work) -> Thing:
        """Insert a row, then do the rest of ``work`` on it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._add, text, work)

    async def change(self, key: int, work: Work) -> Thing:
        """Do ``work`` on a row that is there."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._change, key, work)

    def _open(self) -> None:
        # No isolation level: every statement is a transaction of its own.
        self._handle = sqlite3.connect(self._file, isolation_level=None)
        for pragma in _PRAGMAS:
            self._handle.execute(pragma)
        self._handle.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT, n INTEGER)")

    def _execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if self._handle is None:
            detail = "not opened"
            raise RuntimeError(detail)
        return self._handle.execute(statement, values)

    def _add(self, text: str, work: Work) -> Thing:
        key = self._execute("INSERT INTO things (text, n) VALUES (?, 0)", text).lastrowid or 0
        return self._change(key, Work(work.writes - 1, work.reads))

    def _change(self, key: int, work: Work) -> Thing:
        for _ in range(work.writes):
            self._execute("UPDATE things SET n = n + 1 WHERE id = ?", key)
        row: tuple[int, str, int] = (key, "", 0)
        for _ in range(work.reads):
            row = self._execute("SELECT id, text, n FROM things WHERE id = ?", key).fetchone()
        return Thing(id=row[0], text=row[1], n=row[2])


def create_bare_app(rows: Rows, creating: Work, continuing: Work) -> FastAPI:
    """Return an app whose two routes make the transactions that creating and continuing a run make."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await rows.opened()
        yield
        await rows.closed()

    app = FastAPI(lifespan=lifespan)

    @app.post("/create")
    async def create(body: NewThing) -> Thing:
        return await rows.add(body.text, creating)

    @app.post("/continue")
    async def continue_thing(body: ThingName) -> Thing:
        return await rows.change(body.id, continuing)

    return app


def _make_table(connection: Connection) -> None:
    _TABLE.metadata.create_all(connection)


def _set_pragmas(handle: Any, _record: object) -> None:  # noqa: ANN401 - SQLAlchemy's stand-in for aiosqlite's connection
    cursor = handle.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()
