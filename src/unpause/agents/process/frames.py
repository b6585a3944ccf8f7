"""Messages between the server and an agent process: JSON behind its length, over a pair of sockets."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_HEADER: Final = struct.Struct(">I")

# How long a frame may wait for others: each write wakes the other process.
_COLLECT_SECONDS: Final = 0.003

# Smaller frames hold too few values to be worth counting.
_LARGE: Final = 256 * 1024


class ProtocolViolation(Exception):
    """The other side sent what the protocol does not know, or more than it allows."""


class FrameTooLarge(Exception):
    """A message is larger than the other side takes."""


@dataclass(frozen=True, slots=True)
class FrameLimit:
    """The largest frame: its size in bytes, and how many JSON values it may hold at most; None for any number.

    The parser keeps the interpreter's lock, in a thread too: while it reads a frame, the event loop stands still. That
    takes much longer for a million small values than for one long text.
    """

    size: int
    values: int | None = None

    def find_excess(self, size: int, data: bytes = b"") -> str | None:
        """Return in which way a frame of this size is too large, and where it has been read, one with this content."""
        if size > self.size:
            return f"{size} bytes; {self.size} are allowed"
        if self.values is None or len(data) <= _LARGE:
            return None
        # What separates and opens values; those within texts count, too.
        values = data.count(b",") + data.count(b"[") + data.count(b"{")
        return f"{values} values; {self.values} are allowed" if values > self.values else None


# The first frame of an agent process: it has loaded libraries, and takes its configuration.
WARM: Final = b""
# From the server: a segment with the whole conversation and the pictures of its requests.
SERVER_FRAMES: Final = FrameLimit(256 * 1024 * 1024)


def agent_frames(max_body_bytes: int, max_result_bytes: int) -> FrameLimit:
    """Return the limit of what an agent process, the less trusted side, may send.

    Its largest message is a turn: the pictures of its requests, which base64 makes a third larger, and the results of
    tools, each of which holds at most one value in two bytes.
    """
    return FrameLimit(2 * max_body_bytes + 8 * max_result_bytes, max(2_000_000, 2 * max_result_bytes))


class FrameSocket:
    """One end of the pair, on the event loop, with the limits of the frames that it reads and writes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reads: FrameLimit, writes: FrameLimit
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._reads = reads
        self._writes = writes
        # What was sent since the last write: one write for all of it.
        self._unwritten: list[bytes] = []
        self._next_write: asyncio.Handle | None = None
        self._is_collecting = False

    @classmethod
    async def attach(cls, sock: socket.socket, reads: FrameLimit, writes: FrameLimit) -> FrameSocket:
        """Return the socket's frames; the socket belongs to the loop from here on."""
        sock.setblocking(False)  # noqa: FBT003 - the standard library's
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer, reads=reads, writes=writes)

    def send(self, data: bytes, *, may_wait: bool = False) -> None:
        """Write a frame behind those that were sent before; raise FrameTooLarge having written nothing.

        All frames of one turn of the loop are one write. One that ``may_wait`` is written with the next one that may
        not, or else within a few milliseconds.
        """
        if excess := self._writes.find_excess(len(data), data):
            raise FrameTooLarge(f"a message of {excess}")
        self._unwritten += (_HEADER.pack(len(data)), data)
        if self._next_write is None or (self._is_collecting and not may_wait):
            self._plan_write(may_wait=may_wait)

    def _plan_write(self, *, may_wait: bool) -> None:
        if self._next_write is not None:
            self._next_write.cancel()
        loop = asyncio.get_running_loop()
        self._is_collecting = may_wait
        self._next_write = loop.call_later(_COLLECT_SECONDS, self._write) if may_wait else loop.call_soon(self._write)

    async def drain(self) -> None:
        """Wait until the other side has read most of what was sent. Raises ConnectionError once it is gone."""
        self._write()
        await self._writer.drain()

    async def receive(self) -> bytes | None:
        """Return the next frame; None once the other side is gone. Raises ProtocolViolation."""
        try:
            header = await self._reader.readexactly(_HEADER.size)
            (size,) = _HEADER.unpack(header)
            _refuse(self._reads.find_excess(size))
            data = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        _refuse(self._reads.find_excess(size, data))
        return data

    def close(self) -> None:
        """Close this end: the other one reads to the end of what was sent."""
        self._write()
        self._writer.close()

    def _write(self) -> None:
        self._next_write = None
        frames, self._unwritten = b"".join(self._unwritten), []
        if frames and not self._writer.is_closing():
            self._writer.write(frames)


def send_blocking(sock: socket.socket, data: bytes) -> None:
    """Write one frame before there is an event loop."""
    sock.sendall(_HEADER.pack(len(data)) + data)


def receive_blocking(sock: socket.socket, limit: FrameLimit) -> bytes | None:
    """Return one frame before there is an event loop; None once the other side is gone. Raises ProtocolViolation."""
    header = _read_exactly(sock, _HEADER.size)
    if header is None:
        return None
    (size,) = _HEADER.unpack(header)
    _refuse(limit.find_excess(size))
    return _read_exactly(sock, size)


def _refuse(excess: str | None) -> None:
    if excess is not None:
        raise ProtocolViolation(f"a frame of {excess}")


def _read_exactly(sock: socket.socket, size: int) -> bytes | None:
    parts: list[bytes] = []
    while size > 0:
        try:
            part = sock.recv(min(size, 1 << 20))
        except ConnectionError:
            return None
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
