"""``EventStream``: what is there already is sent before anything else has its turn, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Message

from unpause.api.sse import EventStream

SCOPE = {"type": "http", "method": "GET", "path": "/"}


class Client:
    """What a server sends to a client that stays."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent if message["type"] == "http.response.body"]

    async def respond(self, first: bytes, *rest: str) -> None:
        async def frames() -> AsyncGenerator[bytes]:
            for data in rest:
                # As for an event that another task commits.
                await asyncio.sleep(0)
                yield f"data: {data}\n\n".encode()

        await EventStream(frames(), first=first)(SCOPE, self.receive, self.send)


async def test_what_is_there_is_sent_before_a_task_that_was_started_earlier() -> None:
    client, seen = Client(), list[bytes]()

    async def segment() -> None:
        seen.extend(client.bodies)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(segment())
        await client.respond(b"data: started\n\n", "later")
    assert seen == [b"data: started\n\n"]


async def test_a_stream_has_one_head_and_one_end_with_and_without_something_to_begin_with() -> None:
    for first, bodies in (
        (b"data: one\n\n", [b"data: one\n\n", b"data: two\n\n", b""]),
        (b"", [b"data: two\n\n", b""]),
    ):
        client = Client()
        await client.respond(first, "two")
        assert client.bodies == bodies
        assert [message["type"] for message in client.sent].count("http.response.start") == 1
        assert [message.get("more_body") for message in client.sent] == [None, *[True] * (len(bodies) - 1), False]
