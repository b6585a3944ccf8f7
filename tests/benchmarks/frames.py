"""One event's way from an agent process to the server: `python -m tests.benchmarks.frames`."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

from unpause.agents.process.frames import SERVER_FRAMES, FrameSocket, agent_frames
from unpause.agents.process.messages import Emit, decode_from_agents, encode
from unpause.domain.events import EventType

EVENTS: Final = 20_000
PAYLOAD: Final = {"content": "word "}


async def measure() -> float:
    """Return the CPU seconds that one event takes on both sides together: encoded, sent, received and checked."""
    ours, theirs = socket.socketpair()
    limit = agent_frames(20 << 20, 1 << 20)
    sender = await FrameSocket.attach(theirs, SERVER_FRAMES, limit)
    receiver = await FrameSocket.attach(ours, limit, SERVER_FRAMES)
    began = time.process_time()
    for number in range(EVENTS):
        sender.send(encode(Emit(1, EventType.CONTENT_DELTA, {**PAYLOAD, "number": number})))
        await sender.drain()
        data = await receiver.receive()
        assert data is not None
        decode_from_agents(data)
    spent = time.process_time() - began
    sender.close()
    receiver.close()
    return spent / EVENTS


if __name__ == "__main__":
    print(f"{asyncio.run(measure()) * 1000:.3f} ms of CPU for an event's way through the socket")  # noqa: T201 - the result
