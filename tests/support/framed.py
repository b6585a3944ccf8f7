"""Agents behind the frames of an agent process, within one event loop: the whole protocol, and no process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from unpause.agents.driver import AgentDriver, ArgumentCheck, Journal, Segment, SegmentEnd
from unpause.agents.hosting import open_lifespans
from unpause.agents.process.child import AgentProcess, describe
from unpause.agents.process.frames import SERVER_FRAMES, FrameLimit, FrameSocket, agent_frames
from unpause.agents.process.link import AgentLink
from unpause.agents.process.messages import Ready, decode_from_agents
from unpause.agents.process.proxy import ProcessDriver
from unpause.agents.served import Agents


class FramedHost:
    """Implements ``AgentHost`` with an agent process's code in a task of this loop."""

    def __init__(
        self,
        drivers: Sequence[AgentDriver],
        setup: AgentDriver | None = None,
        limit: FrameLimit = agent_frames(20 << 20, 1 << 20),  # noqa: B008 - it cannot be changed
    ) -> None:
        self._drivers = drivers
        self._setup = setup
        self._limit = limit
        self._loop: asyncio.AbstractEventLoop | None = None
        self.link: AgentLink | None = None
        self.listening: asyncio.Task[None] | None = None

    def agents(self) -> Agents:
        """Return the agents as a server with agent processes has them."""
        setup = None if self._setup is None else ProcessDriver(describe(self._setup), self)
        return Agents([ProcessDriver(describe(driver), self) for driver in self._drivers], setup, self.running)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run both ends during the block."""
        self._loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        inner = await FrameSocket.attach(theirs, SERVER_FRAMES, self._limit)
        outer = await FrameSocket.attach(ours, self._limit, SERVER_FRAMES)
        async with AsyncExitStack() as stack:
            stack.callback(inner.close)
            stack.callback(outer.close)
            await stack.enter_async_context(open_lifespans(self._drivers))
            process = asyncio.create_task(AgentProcess(inner, self._drivers, self._setup).serve())
            data = await outer.receive()
            assert data is not None
            assert isinstance(decode_from_agents(data), Ready)
            self.link = AgentLink(outer, "framed agents")
            listening = self.listening = asyncio.create_task(self.link.listen())
            try:
                yield
            finally:
                self.link.request_shutdown()
                await asyncio.wait({process}, timeout=10)
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                self.link.end("the test is over")
                process.result()

    async def run_segment(self, agent_id: str, segment: Segment, journal: Journal) -> SegmentEnd:
        """Run it behind the frames."""
        assert self.link is not None
        return await self.link.run_segment(agent_id, segment, journal)

    def check_arguments(
        self, agent_id: str, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Check them behind the frames; called in a thread."""
        assert self.link is not None
        assert self._loop is not None
        check = self.link.check_arguments(agent_id, tool_name, arguments, sorted(chosen))
        return asyncio.run_coroutine_threadsafe(check, self._loop).result(10)
