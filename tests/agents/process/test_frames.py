"""Frames: a length and so many bytes, whole or not at all, and none that is larger than it may be."""

from __future__ import annotations

import socket
import struct

import pytest

from unpause.agents.process.frames import (
    FrameSocket,
    FrameTooLarge,
    ProtocolViolation,
    receive_blocking,
    send_blocking,
)


async def pair(limit: int = 1000) -> tuple[FrameSocket, FrameSocket]:
    ours, theirs = socket.socketpair()
    return await FrameSocket.attach(ours, limit), await FrameSocket.attach(theirs, limit)


async def test_frames_arrive_whole_and_in_order_and_the_end_is_none() -> None:
    ours, theirs = await pair()
    for data in (b"", b"a", b"b" * 1000):
        ours.send(data)
    ours.close()

    assert [await theirs.receive() for _ in range(4)] == [b"", b"a", b"b" * 1000, None]
    theirs.close()


async def test_a_frame_cut_off_by_the_end_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    frames = await FrameSocket.attach(theirs, 1000)
    ours.sendall(struct.pack(">I", 10) + b"only five"[:5])
    ours.close()

    assert await frames.receive() is None
    frames.close()


async def test_a_frame_that_claims_to_be_too_large_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    frames = await FrameSocket.attach(theirs, 1000)
    ours.sendall(struct.pack(">I", 1001))

    with pytest.raises(ProtocolViolation, match="1001 bytes; 1000 are allowed"):
        await frames.receive()
    frames.close()
    ours.close()


async def test_nothing_is_sent_of_a_message_that_is_too_large() -> None:
    ours, theirs = await pair()

    with pytest.raises(FrameTooLarge):
        ours.send(b"x" * 11, limit=10)
    ours.send(b"next")
    assert await theirs.receive() == b"next"
    ours.close()
    theirs.close()


def test_the_first_frames_pass_before_there_is_a_loop() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_blocking(ours, b"hello")
        assert receive_blocking(theirs, 1000) == b"hello"
        ours.sendall(struct.pack(">I", 1 << 31))
        with pytest.raises(ProtocolViolation):
            receive_blocking(theirs, 1000)
        ours.close()
        assert receive_blocking(theirs, 1000) is None
