"""``EventStream``: what is there already is sent first; it ends with its frames, or when the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from unpause.api.sse import EventStream

SCOPE = {"type": "http", "method": "GET", "path": "/"}
KEEPALIVE = b": keepalive\n\n"


class Client:
    """What a server sends to a client until it leaves."""

    def __init__(self, *, refuses: bytes | None = None) -> None:
        """``refuses`` is what cannot be sent."""
        self.sent: list[Message] = []
        self.leaves = asyncio.Event()
        self._refuses = refuses
        self._has_asked = False
        self._has_sent = asyncio.Event()

    async def receive(self) -> Message:
        if not self._has_asked:
            self._has_asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._refuses is not None and message.get("body") == self._refuses:
            raise ConnectionError
        self.sent.append(message)
        self._has_sent.set()

    async def wait_for(self, body: bytes, times: int = 1) -> None:
        while self.bodies.count(body) < times:
            self._has_sent.clear()
            await self._has_sent.wait()

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    async def respond(self, frames: Frames, **options: object) -> None:
        await EventStream(frames.stream(), **options)(SCOPE, self.receive, self.send)  # type: ignore[arg-type]


class Frames:
    """The frames of a stream, and whether it was closed; after them it waits, raises, or ends."""

    def __init__(self, *frames: bytes, waits: bool = False, error: Exception | None = None) -> None:
        self._frames = frames
        self._waits = waits
        self._error = error
        self.is_closed = False

    async def stream(self) -> AsyncGenerator[bytes]:
        try:
            for frame in self._frames:
                # As for an event that another task commits.
                await asyncio.sleep(0)
                yield frame
            if self._waits:
                await asyncio.Event().wait()
            if self._error is not None:
                raise self._error
        finally:
            self.is_closed = True


async def test_what_is_there_is_sent_before_a_task_that_was_started_earlier() -> None:
    client, seen = Client(), list[bytes]()

    async def segment() -> None:
        seen.extend(client.bodies)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(segment())
        await client.respond(Frames(b"later"), first=b"started")
    assert seen == [b"started"]


@pytest.mark.parametrize(("first", "bodies"), [(b"one", [b"one", b"two", b"end"]), (b"", [b"two", b"end"])])
async def test_a_stream_has_one_head_and_one_end_with_and_without_something_to_begin_with(
    first: bytes, bodies: list[bytes]
) -> None:
    client = Client()
    await client.respond(Frames(b"two"), first=first, last=b"end")
    assert client.bodies == bodies
    assert [message["type"] for message in client.sent].count("http.response.start") == 1
    assert [message.get("more_body") for message in client.sent] == [None, *[True] * (len(bodies) - 1), False]


async def test_a_stream_ends_when_its_client_is_gone_and_is_sent_no_more() -> None:
    client, frames = Client(), Frames(b"one", waits=True)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(client.respond(frames, last=b"end"))
        await client.wait_for(b"one")
        client.leaves.set()
    assert (client.bodies, frames.is_closed) == ([b"one"], True)


async def test_a_stream_without_frames_has_comments_until_its_client_is_gone() -> None:
    client, frames = Client(), Frames(b"one", waits=True)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(client.respond(frames, keepalive_seconds=0.01))
        await client.wait_for(KEEPALIVE, 3)
        client.leaves.set()
    assert set(client.bodies) == {b"one", KEEPALIVE}
    assert frames.is_closed


@pytest.mark.parametrize("refused", [b"one", KEEPALIVE])
async def test_what_a_send_raises_ends_the_stream_and_reaches_the_middlewares(refused: bytes) -> None:
    client, frames = Client(refuses=refused), Frames(b"one", waits=True)
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError):
            await client.respond(frames, keepalive_seconds=0.01)
    assert frames.is_closed


@pytest.mark.parametrize("error", [TimeoutError("of the database"), ValueError("of a frame")])
async def test_what_the_frames_raise_is_raised_and_not_taken_for_a_client_that_is_gone(error: Exception) -> None:
    client = Client()
    with pytest.raises(type(error), match=str(error)):
        await client.respond(Frames(b"one", error=error))
    assert client.bodies == [b"one"]


async def test_a_cancelled_stream_closes_its_frames() -> None:
    client, frames = Client(), Frames(b"one", waits=True)
    streaming = asyncio.create_task(client.respond(frames))
    await client.wait_for(b"one")
    streaming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await streaming
    assert frames.is_closed
