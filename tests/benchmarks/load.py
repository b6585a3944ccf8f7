"""A lean load generator: HTTP/1.1 over asyncio streams with keep-alive, and clients that cycle until time is up."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import urlencode

_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200"


Cycle = Callable[["Connection", "Tally"], Awaitable[None]]


class Refused(Exception):
    """An answer that is not the expected one."""


class Connection:
    """One kept-alive connection to a server on this machine."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int) -> AsyncIterator[Connection]:
        """Connect for the length of the block."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()

    async def post(self, path: str, media_type: str, body: str) -> bytes:
        """Return the body of the answer, of a stream all of it; raise Refused unless the status is 200."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-type: {media_type}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write((head + body).encode())
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        content = await (self._reader.readexactly(int(length[1])) if length else self._read_chunks())
        if not answer.startswith(_OK):
            raise Refused(answer[:12].decode() + " " + content.decode())
        return content

    async def _read_chunks(self) -> bytes:
        chunks = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            chunks.append((await self._reader.readexactly(size + 2))[:-2])
        await self._reader.readexactly(2)
        return b"".join(chunks)


@dataclass(slots=True)
class Tally:
    """What was answered between ``begin`` and ``end``, which are moments of ``perf_counter``.

    ``ever`` counts the warming up and the stragglers, too: what the server's ``processor_seconds`` were used for.
    """

    begin: float
    end: float
    requests: int = 0
    ever: int = 0
    refused: int = 0
    processor_seconds: float = 0.0
    continues: list[float] = field(default_factory=list)

    def note(self, asked: float, *, continued: bool) -> None:
        """Count a request that was sent at ``asked`` and is answered now."""
        now = perf_counter()
        self.ever += 1
        if self.begin <= now < self.end:
            self.requests += 1
            if continued:
                self.continues.append(now - asked)

    @property
    def cycles_per_second(self) -> float:
        """Two requests are a cycle: so those that the window cuts count half."""
        return self.requests / 2 / (self.end - self.begin)

    @property
    def processor_milliseconds(self) -> float:
        """What one cycle cost the server in processor time."""
        return 1000 * self.processor_seconds / max(1, self.ever / 2)


def agent_cycle(agent_id: str, *, stream: bool = False) -> Cycle:
    """Return a cycle of ours: create a run in a fresh session, then confirm its call; ``stream`` the second or not."""

    async def cycle(connection: Connection, tally: Tally) -> None:
        asked = perf_counter()
        body = urlencode({"message": "do it", "stream": "false"})
        run = _paused(await connection.post(f"/agents/{agent_id}/runs", _FORM, body))
        tally.note(asked, continued=False)
        tools = json.dumps([{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}])
        body = urlencode({"tools": tools, "stream": str(stream).lower()})
        asked = perf_counter()
        answer = await connection.post(f"/agents/{agent_id}/runs/{run['run_id']}/continue", _FORM, body)
        tally.note(asked, continued=True)
        if (b'"event":"RunCompleted"' if stream else b'"status":"COMPLETED"') not in answer:
            raise Refused(answer.decode())

    return cycle


async def bare_cycle(connection: Connection, tally: Tally) -> None:
    """Ask a bare app for its two routes' work."""
    asked = perf_counter()
    thing = json.loads(await connection.post("/create", _JSON, '{"text":"do it"}'))
    tally.note(asked, continued=False)
    asked = perf_counter()
    await connection.post("/continue", _JSON, json.dumps({"id": thing["id"]}))
    tally.note(asked, continued=True)


async def load(port: int, cycle: Cycle, clients: int, seconds: float) -> Tally:
    """Let the clients cycle, a fifth of the time to warm up and then ``seconds`` that count."""
    begin = perf_counter() + seconds / 5
    tally = Tally(begin, begin + seconds)

    async def client() -> None:
        async with Connection.opened(port) as connection:
            while perf_counter() < tally.end:
                try:
                    await cycle(connection, tally)
                except Refused:
                    tally.refused += 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    return tally


def _paused(answer: bytes) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(answer)
    if run.get("status") != "PAUSED":
        raise Refused(answer.decode())
    return run
