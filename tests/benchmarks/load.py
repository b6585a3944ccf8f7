"""A lean load generator: clients on kept-alive connections that create a run, continue it, and begin again.

``python -m tests.benchmarks.load`` is the generator in a process of its own: each line of its standard input is a JSON
object with the arguments of ``load``, and is answered by a line with what was counted.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import Any, cast
from urllib.parse import urlencode

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_DATA = re.compile(r"^data: (.*)$", re.MULTILINE)
_DEADLINE = 60.0


class WrongAnswer(Exception):
    """An answer that is not the expected one."""


@dataclass(slots=True)
class Answer:
    """The body of a response, and when it and its first event came."""

    body: str
    first_event: float
    ended: float

    def run(self, status: str, event: str) -> dict[str, Any]:
        """Return the run that the answer shows; raise WrongAnswer unless it has this status or ends with this event."""
        if self.body.startswith("{"):
            run: dict[str, Any] = json.loads(self.body)
            if run.get("status") == status:
                return run
        else:
            for data in reversed(_DATA.findall(self.body)):
                run = json.loads(data)
                if run.get("event") == event:
                    return run
        raise WrongAnswer(self.body)


class Connection(asyncio.Protocol):
    """One kept-alive connection to a server on this machine, with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._body_at = 0
        self._length: int | None = None
        self._first_event = 0.0
        self._answered: asyncio.Future[Answer] | None = None

    @classmethod
    @asynccontextmanager
    async def opened(cls, port: int) -> AsyncIterator[Connection]:
        """Connect for the length of the block."""
        transport, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        try:
            yield connection
        finally:
            transport.close()

    async def post(self, path: str, form: dict[str, str]) -> Answer:
        """Return the answer, of a stream all of it; raise WrongAnswer unless the status is 200."""
        body = urlencode(form)
        request = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/x-www-form-urlencoded\r\n"
            f"content-length: {len(body)}\r\n\r\n{body}"
        )
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request.encode())
        return await self._answered

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what to write to."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the open request."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("closed by the server"))

    def data_received(self, data: bytes) -> None:
        """Collect the response; hand it over when it is complete."""
        received = self._received
        received += data
        if not self._body_at:
            self._body_at = received.find(b"\r\n\r\n") + 4
            if self._body_at < 4:
                self._body_at = 0
                return
            length = _LENGTH.search(received, 0, self._body_at)
            self._length = int(length[1]) if length else None
        if not self._first_event and len(received) > self._body_at:
            self._first_event = perf_counter()
        if self._length is None:
            is_complete = received.endswith(_LAST_CHUNK)
        else:
            is_complete = len(received) >= self._body_at + self._length
        if is_complete:
            self._complete()

    def _complete(self) -> None:
        received, body_at, is_chunked = bytes(self._received), self._body_at, self._length is None
        answer = Answer("", self._first_event, perf_counter())
        self._received.clear()
        self._body_at = 0
        self._first_event = 0.0
        if self._answered is None or self._answered.done():
            return
        body = _joined(received, body_at) if is_chunked else received[body_at:]
        answer.body = body.decode()
        if received.startswith(_OK):
            self._answered.set_result(answer)
        else:
            self._answered.set_exception(WrongAnswer(f"{received[:12].decode()} {answer.body}"))


def _joined(received: bytes, at: int) -> bytes:
    chunks: list[bytes] = []
    while True:
        end = received.index(b"\r\n", at)
        if not (size := int(received[at:end], 16)):
            return b"".join(chunks)
        chunks.append(received[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


@dataclass(slots=True)
class Tally:
    """What was answered between ``begin`` and ``end``, which are moments of ``perf_counter``; times in milliseconds.

    ``ever`` counts the requests of the warming up and the stragglers, too: the ones that the server's processor time
    was used for.
    """

    begin: float
    end: float
    requests: int = 0
    ever: int = 0
    wrong: int = 0
    processor_seconds: float = 0.0
    continues: list[float] = field(default_factory=list)
    first_events: list[float] = field(default_factory=list)
    complaint: str = ""

    @property
    def cycles_per_second(self) -> float:
        """Two requests are a cycle: so those that the window cuts count half."""
        return self.requests / 2 / (self.end - self.begin)

    @property
    def cycles(self) -> float:
        """How many cycles the server worked for; one where there was none, to divide by."""
        return max(1.0, self.ever / 2)

    def note(self, sent: float, answer: Answer, *, continued: bool) -> None:
        """Count a request that was sent at ``sent``."""
        self.ever += 1
        if self.begin <= answer.ended < self.end:
            self.requests += 1
            self.first_events.append(1000 * (answer.first_event - sent))
            if continued:
                self.continues.append(1000 * (answer.ended - sent))

    def note_wrong(self, error: Exception) -> None:
        """Count an answer that is not the expected one, and keep the first."""
        self.wrong += 1
        self.complaint = self.complaint or f"{error!r}"[:500]


async def cycle(connection: Connection, tally: Tally, runs: str, stream: str) -> None:
    """Create a run in a fresh session, then confirm its call; ``runs`` is the path, ``stream`` "true" or "false"."""
    sent = perf_counter()
    answer = await connection.post(runs, {"message": "do it", "stream": stream})
    tally.note(sent, answer, continued=False)
    run = answer.run("PAUSED", "RunPaused")
    tools = json.dumps([{**tool, "confirmed": True} for tool in run["tools"]])
    form = {"tools": tools, "session_id": run["session_id"], "stream": stream}
    sent = perf_counter()
    answer = await connection.post(f"{runs}/{run['run_id']}/continue", form)
    tally.note(sent, answer, continued=True)
    answer.run("COMPLETED", "RunCompleted")


async def load(port: int, agent_id: str, clients: int, seconds: float, *, stream: bool = False) -> Tally:
    """Let the clients cycle, a fifth of the time to warm up and then ``seconds`` that count."""
    begin = perf_counter() + seconds / 5
    tally = Tally(begin, begin + seconds)
    runs = f"/agents/{agent_id}/runs"
    used = process_time()

    async def client() -> None:
        while perf_counter() < tally.end:
            try:
                async with Connection.opened(port) as connection:
                    while perf_counter() < tally.end:
                        await cycle(connection, tally, runs, str(stream).lower())
            except (WrongAnswer, OSError) as error:
                tally.note_wrong(error)

    async with asyncio.timeout(seconds + _DEADLINE), asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    tally.processor_seconds = process_time() - used
    return tally


def main() -> None:
    """Make the load that each line asks for."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            sys.stdout.write(json.dumps(asdict(runner.run(load(**json.loads(line))))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
