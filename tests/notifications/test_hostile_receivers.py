"""An answer takes bounded memory and time: a service's code would read all of it, for as long as it comes."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat

import pytest

from tests.support.webhook_server import once
from unpause.domain.webhooks import DeliveryResult
from unpause.notifications.sender import AppriseSender
from unpause.vault import Vault, new_key

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
# As good as without a time limit: the receiver is cut off for what it sends.
LONG = 600.0
SHORT = 0.5
# Of what a receiver sends, this machine's buffers take some.
MOST = 32_000_000
# The only interim answer after which Python's client reads another one.
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
MAIL = "?from=unpause@example.org&to=ops@example.org&mode=insecure"
TAKEN = DeliveryResult()
TOO_LONG = DeliveryResult(error="the answer is too long")


def compressed() -> Iterator[bytes]:
    """Yield the pieces of a body that never ends, a thousandth of what they are."""
    compress = zlib.compressobj(wbits=31)
    piece = b"\0" * 1_000_000
    while True:
        yield compress.compress(piece)


@dataclass
class Hostile:
    """A server that sends to whoever asks, and how much of it was taken."""

    port: int = 0
    taken: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def respond(
        self, pieces: Iterator[bytes], pause: float, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send the pieces until the other side goes."""
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                self.taken += len(piece)
                # Also where nothing is waited for, the other side has its turn.
                await asyncio.sleep(pause)
        except ConnectionError:
            self.gone.set()
        finally:
            writer.close()


@asynccontextmanager
async def sending(head: bytes, pieces: Iterator[bytes], pause: float = 0) -> AsyncIterator[Hostile]:
    """Serve an answer that begins with ``head`` and goes on with the pieces, a pause after each."""

    def all_of_it() -> Iterator[bytes]:
        yield head
        yield from pieces

    hostile = Hostile()
    server = await asyncio.start_server(partial(hostile.respond, all_of_it(), pause), "127.0.0.1", 0)
    async with server:
        hostile.port = server.sockets[0].getsockname()[1]
        yield hostile


async def send(hostile: Hostile, seconds: float, kind: str = "json", query: str = "") -> DeliveryResult:
    """Send a message to it through a channel."""
    vault = Vault([new_key()])
    url = vault.encrypt(f"{kind}://127.0.0.1:{hostile.port}/{query}")
    return await AppriseSender(vault, seconds, allow_private=True).send_text(1, url, ("title", "body"))


async def no_thread_is_left() -> None:
    """Wait until all threads that send have ended."""

    async def names() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name == "send a notification"]

    assert await once(names, lambda found: not found) == []


@pytest.mark.parametrize(
    ("head", "pieces", "result"),
    [
        (HEAD + b"\r\n", lambda: repeat(b"x" * 65_536), TAKEN),
        (HEAD + b"Content-Encoding: gzip\r\n\r\n", compressed, TAKEN),
        (b"", lambda: repeat(INTERIM * 100), TOO_LONG),
    ],
    ids=["body", "compressed body", "interim answers"],
)
async def test_of_an_endless_answer_a_channel_reads_the_beginning(
    head: bytes, pieces: Callable[[], Iterator[bytes]], result: DeliveryResult
) -> None:
    async with sending(head, pieces()) as hostile:
        assert await send(hostile, LONG) == result
        async with asyncio.timeout(60):
            await hostile.gone.wait()
        assert hostile.taken < MOST
    await no_thread_is_left()


async def test_of_an_endless_greeting_a_mail_channel_reads_the_beginning() -> None:
    # A mail server speaks first.
    hostile = Hostile()

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = asyncio.StreamReader()
        silent.feed_data(b"\r\n\r\n")
        await hostile.respond(repeat(b"220-welcome\r\n" * 1000), 0, silent, writer)

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        hostile.port = server.sockets[0].getsockname()[1]
        assert await send(hostile, LONG, "mailto", MAIL) == TOO_LONG
        assert hostile.taken < MOST
    await no_thread_is_left()


@pytest.mark.parametrize(
    ("head", "piece"),
    [(HEAD + b"\r\n", b"x"), (HEAD, b"X: y\r\n"), (INTERIM, INTERIM)],
    ids=["body", "head", "interim answers"],
)
async def test_a_thread_ends_with_an_attempt_whose_answer_comes_byte_by_byte(head: bytes, piece: bytes) -> None:
    async with sending(head, repeat(piece), SHORT / 10) as hostile:
        assert await send(hostile, SHORT) == DeliveryResult(error=f"no answer within {SHORT:g} seconds")
        async with asyncio.timeout(60):
            await hostile.gone.wait()
        await no_thread_is_left()
