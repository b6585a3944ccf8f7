"""Frames: a length and so many bytes, whole or not at all, and none that is larger than it may be."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

import pytest

from unpause.agents.process.frames import (
    FrameLimit,
    FrameSocket,
    FrameTooLarge,
    ProtocolViolation,
    agent_frames,
    receive_blocking,
    send_blocking,
)

LIMIT = FrameLimit(1000)


async def pair(limit: FrameLimit = LIMIT) -> tuple[FrameSocket, FrameSocket]:
    ours, theirs = socket.socketpair()
    return await FrameSocket.attach(ours, limit, limit), await FrameSocket.attach(theirs, limit, limit)


async def test_frames_arrive_whole_and_in_order_and_the_end_is_none() -> None:
    ours, theirs = await pair()
    for data in (b"", b"a", b"b" * 1000):
        ours.send(data)
    ours.close()

    assert [await theirs.receive() for _ in range(4)] == [b"", b"a", b"b" * 1000, None]
    theirs.close()


class CountingWriter:
    """The end of a stream that keeps what it is given in one piece."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.written.append(data)


async def test_frames_of_one_turn_of_the_loop_go_in_one_write() -> None:
    writer: Any = CountingWriter()
    frames = FrameSocket(asyncio.StreamReader(), writer, reads=LIMIT, writes=LIMIT)
    frames.send(b"a")
    frames.send(b"b")
    await asyncio.sleep(0)

    assert writer.written == [framed(b"a", b"b")]


def framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(data)) + data for data in frames)


async def test_a_frame_that_may_wait_goes_in_one_write_with_the_next_one_that_may_not() -> None:
    writer: Any = CountingWriter()
    frames = FrameSocket(asyncio.StreamReader(), writer, reads=LIMIT, writes=LIMIT)
    frames.send(b"a", may_wait=True)
    await asyncio.sleep(0)
    assert writer.written == []

    frames.send(b"b", may_wait=True)
    frames.send(b"c")
    frames.send(b"d", may_wait=True)
    await asyncio.sleep(0)
    assert writer.written == [framed(b"a", b"b", b"c", b"d")]


async def test_a_frame_that_may_wait_and_has_no_other_behind_it_is_written_all_the_same() -> None:
    ours, theirs = await pair()
    ours.send(b"a", may_wait=True)

    async with asyncio.timeout(30):
        assert await theirs.receive() == b"a"
    for end in (ours, theirs):
        end.close()


async def test_a_frame_cut_off_by_the_end_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    frames = await FrameSocket.attach(theirs, LIMIT, LIMIT)
    ours.sendall(struct.pack(">I", 10) + b"only five"[:5])
    ours.close()

    assert await frames.receive() is None
    frames.close()


async def test_a_frame_that_claims_to_be_too_large_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    frames = await FrameSocket.attach(theirs, LIMIT, LIMIT)
    ours.sendall(struct.pack(">I", 1001))

    with pytest.raises(ProtocolViolation, match="1001 bytes; 1000 are allowed"):
        await frames.receive()
    frames.close()
    ours.close()


async def test_nothing_is_sent_of_a_message_that_is_too_large() -> None:
    ours, theirs = await pair()

    with pytest.raises(FrameTooLarge, match="1001 bytes; 1000 are allowed"):
        ours.send(b"x" * 1001)
    ours.send(b"next")
    assert await theirs.receive() == b"next"
    ours.close()
    theirs.close()


async def test_a_frame_of_so_many_values_that_the_loop_would_stand_still_is_refused_on_both_sides() -> None:
    many = b"[" + b"{}," * 100_000 + b"{}]"
    text = b'"' + b"x" * len(many) + b'"'
    few = FrameLimit(1 << 20, values=1000)
    ours, theirs = socket.socketpair()
    sender = await FrameSocket.attach(ours, LIMIT, FrameLimit(1 << 20))
    reader = await FrameSocket.attach(theirs, few, few)

    with pytest.raises(FrameTooLarge, match="200002 values; 1000 are allowed"):
        reader.send(many)
    sender.send(text)
    assert await reader.receive() == text
    sender.send(many)
    with pytest.raises(ProtocolViolation, match="200002 values; 1000 are allowed"):
        await reader.receive()
    sender.close()
    reader.close()


def test_a_process_may_send_the_pictures_of_two_requests_and_the_results_of_several_tools() -> None:
    limit = agent_frames(max_body_bytes=30_000_000, max_result_bytes=4_000_000)
    pictures = 30_000_000 * 4 // 3
    result = b"[" + b"1," * 1_999_999 + b"1]"

    assert limit.find_excess(pictures + 8 * 4_000_000) is None
    assert limit.find_excess(2 * len(result), 2 * result) is None
    assert limit.find_excess(1 << 27) is not None


def test_the_first_frames_pass_before_there_is_a_loop() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_blocking(ours, b"hello")
        assert receive_blocking(theirs, LIMIT) == b"hello"
        ours.sendall(struct.pack(">I", 1 << 31))
        with pytest.raises(ProtocolViolation):
            receive_blocking(theirs, LIMIT)
        ours.close()
        assert receive_blocking(theirs, LIMIT) is None
