"""Messages between the server and an agent process: JSON behind its length, over a pair of sockets."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_HEADER: Final = struct.Struct(">I")

# A message may hold the pictures of a request; of the less trusted side, only what a run may keep.
LARGEST_FRAME: Final = 256 * 1024 * 1024
LARGEST_FRAME_OF_AGENTS: Final = 128 * 1024 * 1024


class ProtocolViolation(Exception):
    """The other side sent what the protocol does not know, or more than it allows."""


class FrameTooLarge(Exception):
    """A message is larger than the other side takes."""


class FrameSocket:
    """One end of the pair, on the event loop. ``limit`` is the size in bytes of the largest frame that is read."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = limit

    @classmethod
    async def attach(cls, sock: socket.socket, limit: int) -> FrameSocket:
        """Return the socket's frames; the socket belongs to the loop from here on."""
        sock.setblocking(False)  # noqa: FBT003 - the standard library's
        reader, writer = await asyncio.open_connection(sock=sock)
        return cls(reader, writer, limit)

    def send(self, data: bytes, limit: int = LARGEST_FRAME) -> None:
        """Write a frame behind those that were written before; raise FrameTooLarge having written nothing."""
        if len(data) > limit:
            raise FrameTooLarge(f"a message of {len(data)} bytes; {limit} are allowed")
        if not self._writer.is_closing():
            self._writer.write(_HEADER.pack(len(data)) + data)

    async def drain(self) -> None:
        """Wait until the other side has read most of what was sent. Raises ConnectionError once it is gone."""
        await self._writer.drain()

    async def receive(self) -> bytes | None:
        """Return the next frame; None once the other side is gone. Raises ProtocolViolation."""
        try:
            header = await self._reader.readexactly(_HEADER.size)
            (size,) = _HEADER.unpack(header)
            if size > self._limit:
                raise ProtocolViolation(f"a frame of {size} bytes; {self._limit} are allowed")
            return await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        """Close this end: the other one reads to the end of what was sent."""
        self._writer.close()


def send_blocking(sock: socket.socket, data: bytes) -> None:
    """Write one frame before there is an event loop."""
    sock.sendall(_HEADER.pack(len(data)) + data)


def receive_blocking(sock: socket.socket, limit: int) -> bytes | None:
    """Return one frame before there is an event loop; None once the other side is gone. Raises ProtocolViolation."""
    header = _read_exactly(sock, _HEADER.size)
    if header is None:
        return None
    (size,) = _HEADER.unpack(header)
    if size > limit:
        raise ProtocolViolation(f"a frame of {size} bytes; {limit} are allowed")
    return _read_exactly(sock, size)


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
