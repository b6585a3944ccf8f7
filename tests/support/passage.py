"""A TCP proxy before a server that can swallow everything without closing a connection, as a broken network does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

_CHUNK: Final = 65_536


class Passage:
    """Passes bytes on to a port of this machine, or keeps them; it runs in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._connections: set[asyncio.Task[None]] = set()

    def swallow(self) -> None:
        """Pass nothing on from now on: connections that come are taken, and get no answer."""
        self._loop.call_soon_threadsafe(self._is_open.clear)

    def let_new_ones_pass(self) -> None:
        """Pass on what comes on connections from now on; older ones stay open, and are never heard of again."""
        self._loop.call_soon_threadsafe(self._renew)

    @contextmanager
    def running(self) -> Iterator[Passage]:
        """Listen during the block."""
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=self._loop.run_forever, name="passage")
        thread.start()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            server.close()
            for task in self._connections:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*self._connections, return_exceptions=True))
            # They are closed in the loop's next round.
            self._loop.run_until_complete(asyncio.sleep(0.1))
            self._loop.close()

    def _renew(self) -> None:
        self._is_open = asyncio.Event()
        self._is_open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        is_open, ends = self._is_open, [writer]
        try:
            await is_open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(back)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pass_on(reader, back, is_open))
                tasks.create_task(_pass_on(there, writer, is_open))
        finally:
            for end in ends:
                end.transport.abort()
            self._connections.discard(task)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, is_open: asyncio.Event) -> None:
    with suppress(ConnectionError):
        while found := await source.read(_CHUNK):
            await is_open.wait()
            target.write(found)
            await target.drain()
    await is_open.wait()
    target.close()
