"""The limit: FastAPI with Pydantic AI's plain loop and the commits that a cycle cannot do without, and nothing else.

``python -m tests.benchmarks.limit_server PORT DATABASE_URL CHILDREN``: it answers like AgentOS as far as the load
generator looks. It makes six commits of five statements a cycle: the run is accepted, it is paused; the continue is
accepted, the call has started, the call has finished, the run is completed. With children the loop runs there.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any
from uuid import uuid4

import psycopg
import uvicorn
import uvloop
from fastapi import FastAPI, Form
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic_ai import DeferredToolRequests, DeferredToolResults, ModelMessagesTypeAdapter

from tests.benchmarks.instant_agent import agent

_TABLES = (
    "CREATE TABLE runs (id TEXT PRIMARY KEY, status TEXT, prompt TEXT, content TEXT, fence INTEGER)",
    "CREATE TABLE events (run_id TEXT, sequence INTEGER, payload TEXT, PRIMARY KEY (run_id, sequence))",
    "CREATE TABLE messages (run_id TEXT PRIMARY KEY, messages TEXT)",
)
_PRAGMAS = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "PRAGMA busy_timeout=5000")
# What a child writes on one line: the messages of a run.
_LINE_BYTES = 2**20

_Statement = tuple[str, Sequence[object]]
_Loop = Callable[[str | None], Awaitable[str]]


class Database:
    """Does units of statements: SQLite in one thread, PostgreSQL in four, one round trip a unit."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._is_sqlite = url.startswith("sqlite")
        self._threads = ThreadPoolExecutor(1 if self._is_sqlite else 4)
        self._own = threading.local()

    async def commit(self, *statements: _Statement) -> list[Any]:
        """Do the statements in one transaction; return the first row of the first."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._commit, statements)

    def create_tables(self) -> None:
        """Create the tables, in a database that has none."""
        self._commit([(statement, ()) for statement in _TABLES], is_query=False)

    def _commit(self, statements: Sequence[_Statement], *, is_query: bool = True) -> list[Any]:
        return (self._commit_sqlite if self._is_sqlite else self._commit_postgres)(statements, is_query=is_query)

    def _commit_sqlite(self, statements: Sequence[_Statement], *, is_query: bool) -> list[Any]:
        if not hasattr(self._own, "sqlite"):
            self._own.sqlite = sqlite3.connect(
                self._url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False
            )
            for pragma in _PRAGMAS:
                self._own.sqlite.execute(pragma)
        connection: sqlite3.Connection = self._own.sqlite
        connection.execute("BEGIN IMMEDIATE")
        rows = [connection.execute(*statement).fetchone() for statement in statements]
        connection.execute("COMMIT")
        return [*(rows[0] or ())] if is_query else []

    def _commit_postgres(self, statements: Sequence[_Statement], *, is_query: bool) -> list[Any]:
        if not hasattr(self._own, "postgres"):
            self._own.postgres = psycopg.connect(self._url.replace("+psycopg", ""), prepare_threshold=0)
        connection: psycopg.Connection = self._own.postgres
        with connection.pipeline(), connection.transaction():
            cursors = [
                connection.execute(sql.replace("?", "%s").encode(), values or None) for sql, values in statements
            ]
        return [*(cursors[0].fetchone() or ())] if is_query else []


async def run_loop(messages: str | None) -> str:
    """Run Pydantic AI until it pauses, or with the messages of the pause to the end; return the messages."""
    if messages is None:
        result: Any = await agent.run("do it", output_type=[str, DeferredToolRequests])
    else:
        result = await agent.run(
            message_history=ModelMessagesTypeAdapter.validate_json(messages),
            deferred_tool_results=DeferredToolResults(approvals={"call-1": True}),
            output_type=[str, DeferredToolRequests],
        )
    if (result.output == "done") != (messages is not None):
        raise RuntimeError(result.output)
    return ModelMessagesTypeAdapter.dump_json(result.all_messages()).decode()


class Child:
    """A process for the loop; a line of JSON in, a line of JSON out."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._asked: dict[int, asyncio.Future[str]] = {}
        self._numbers = itertools.count()

    @classmethod
    @asynccontextmanager
    async def started(cls) -> AsyncIterator[Child]:
        """Have a child for the length of the block."""
        command = (sys.executable, "-m", __spec__.name)
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=_LINE_BYTES)
        child = cls(process)
        reading = asyncio.create_task(child._read())
        try:
            await child.run(None)
            yield child
        finally:
            reading.cancel()
            process.terminate()
            await process.wait()

    async def run(self, messages: str | None) -> str:
        """Run the loop there."""
        number = next(self._numbers)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        if self._process.stdin is not None:
            self._process.stdin.write(json.dumps([number, messages]).encode() + b"\n")
        return await answer

    async def _read(self) -> None:
        while self._process.stdout is not None and (line := await self._process.stdout.readline()):
            number, messages = json.loads(line)
            self._asked.pop(number).set_result(messages)


async def serve_loop() -> None:
    """Be a child: run the loop as often as the parent asks, until it is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_LINE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def answer(number: int, messages: str | None) -> None:
        sys.stdout.write(json.dumps([number, await run_loop(messages)]) + "\n")
        sys.stdout.flush()

    async with asyncio.TaskGroup() as tasks:
        while line := await reader.readline():
            tasks.create_task(answer(*json.loads(line)))


def create_app(database: Database, children: int) -> FastAPI:
    """Return the app, with the loop in this process or in as many children."""
    loops: list[_Loop] = []
    turns = itertools.count()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as started:
            loops.extend([(await started.enter_async_context(Child.started())).run for _number in range(children)])
            if not children:
                loops.append(run_loop)
            yield

    app = FastAPI(lifespan=lifespan)

    def run_somewhere(messages: str | None) -> Awaitable[str]:
        return loops[next(turns) % len(loops)](messages)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/agents/instant/runs")
    async def create(message: Annotated[str, Form()], *, stream: Annotated[bool, Form()]) -> Response:
        run_id = f"{uuid4()}"
        insert = ("INSERT INTO runs VALUES (?, 'RUNNING', ?, NULL, 1) RETURNING id", (run_id, message))
        await database.commit(insert, *_more(run_id, 0))

        async def go_on() -> dict[str, Any]:
            messages = await run_somewhere(None)
            add = ("INSERT INTO messages VALUES (?, ?)", (run_id, messages))
            await database.commit(_update(run_id, "PAUSED"), add, *_more(run_id, 10)[1:])
            tools = [{"tool_call_id": "call-1", "tool_name": "act", "tool_args": {"on": "it"}}]
            return {"run_id": run_id, "session_id": run_id, "status": "PAUSED", "tools": tools}

        return await _answer(go_on(), "RunPaused", stream=stream)

    @app.post("/agents/instant/runs/{run_id}/continue")
    async def continue_run(run_id: str, tools: Annotated[str, Form()], *, stream: Annotated[bool, Form()]) -> Response:
        json.loads(tools)
        select = ("SELECT messages FROM messages WHERE run_id = ?", (run_id,))
        (before,) = await database.commit(select, _update(run_id, "RUNNING"), *_more(run_id, 20)[1:])

        async def go_on() -> dict[str, Any]:
            await database.commit(_update(run_id, "RUNNING"), *_more(run_id, 30))
            messages = await run_somewhere(before)
            await database.commit(_update(run_id, "RUNNING"), *_more(run_id, 40))
            keep = ("UPDATE messages SET messages = ? WHERE run_id = ?", (messages, run_id))
            await database.commit(_update(run_id, "COMPLETED"), keep, *_more(run_id, 50)[1:])
            return {"run_id": run_id, "session_id": run_id, "status": "COMPLETED", "content": "done", "tools": []}

        return await _answer(go_on(), "RunCompleted", stream=stream)

    return app


def _update(run_id: str, status: str) -> _Statement:
    sql = "UPDATE runs SET status = ?, fence = fence + 1 WHERE id = ? RETURNING id, status, prompt, content, fence"
    return (sql, (status, run_id))


def _more(run_id: str, sequence: int) -> list[_Statement]:
    """Four statements."""
    select = ("SELECT id, status, prompt, content, fence FROM runs WHERE id = ?", (run_id,))
    insert = "INSERT INTO events VALUES (?, ?, ?)"
    return [select, *((insert, (run_id, sequence + number, '{"event": "RunContent"}')) for number in range(3))]


async def _answer(run: Awaitable[dict[str, Any]], event: str, *, stream: bool) -> Response:
    if not stream:
        return JSONResponse(await run)

    async def events() -> AsyncIterator[str]:
        yield 'event: RunStarted\ndata: {"event": "RunStarted"}\n\n'
        yield f"event: {event}\ndata: {json.dumps({**(await run), 'event': event})}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


def main(port: int, database_url: str, children: int) -> None:
    """Serve until stopped."""
    database = Database(database_url)
    database.create_tables()
    uvicorn.run(
        create_app(database, children), host="127.0.0.1", port=port, log_level="warning", access_log=False, ws="none"
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_loop())
