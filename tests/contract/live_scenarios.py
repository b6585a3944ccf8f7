"""The captured scenarios in which something runs while other requests are sent, each as what happens in it.

What is slow waits at a gate that the scenario opens, so nothing here depends on time.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import httpx
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.contract.replaying import Answer, Replay
from tests.contract.scenario import CAPTURES, Scenario
from tests.contract.scripted_agents import SLOW_PIECES_BEFORE, Gate, scripted_agents
from tests.support.serving import ADDRESS, running
from unpause.api.app import create_app


@dataclass(slots=True)
class Wire:
    """Passes requests on to the application and shows what it has sent so far of each stream, in their order."""

    app: ASGIApp
    streams: list[bytearray] = field(default_factory=list)
    grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        stream: bytearray | None = None

        async def shown(message: Message) -> None:
            nonlocal stream
            if message["type"] == "http.response.start":
                if any(b"text/event-stream" in value for _, value in message["headers"]):
                    stream = bytearray()
                    self.streams.append(stream)
            elif stream is not None:
                async with self.grown:
                    stream.extend(message.get("body", b""))
                    self.grown.notify_all()
            await send(message)

        await self.app(scope, receive, shown)

    async def saw(self, text: str, *, times: int = 1, at: int) -> str:
        """Wait until the stream at this place sent the text so often; return all it sent."""
        wanted = text.encode()
        async with self.grown:
            await self.grown.wait_for(lambda: len(self.streams) > at and self.streams[at].count(wanted) >= times)
        return self.streams[at].decode()


@dataclass(slots=True)
class Live:
    """A server with slow agents, spoken to while they run."""

    scenario: Scenario
    gate: Gate
    wire: Wire

    @property
    def replay(self) -> Replay:
        """What sends the captured requests."""
        return self.scenario.replay

    def start(self, number: str) -> asyncio.Task[Answer]:
        """Send a captured request whose answer comes only when its stream ends."""
        return asyncio.create_task(self.replay.send(CAPTURES.by_number[number]))

    def follow(self, number: str) -> asyncio.Task[Answer]:
        """Follow the log of the run of this capture until it pauses or ends."""
        return asyncio.create_task(self.replay.settle(number))

    async def steps(self, *numbers: str) -> None:
        """Replay requests that are answered at once."""
        for number in numbers:
            await self.scenario.step(number)


@asynccontextmanager
async def live(folder: Path) -> AsyncIterator[Live]:
    """Serve the scripted agents; the same folder again is a restart on the same database."""
    executed: list[str] = []
    gate = Gate()
    async with running(folder, scripted_agents(executed, gate), shutdown_grace_seconds=0.0) as application:
        wire = Wire(create_app(application))
        transport = httpx.ASGITransport(app=wire, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield Live(Scenario(Replay(client, wait=False), executed), gate, wire)


async def cancel_a_streamed_run(folder: Path) -> list[str]:
    """A run is read, continued and cancelled while its first client still reads its stream."""
    async with live(folder) as server:
        stream = server.start("live")
        sent = await server.wire.saw("slow answer ", times=5, at=0)
        started = json.loads(sent.split("data: ", 1)[1].split("\n", 1)[0])
        server.replay.answers["live"] = Answer(200, "text/event-stream", events=(started,))
        await server.steps("154", "155", "156", "157", "158")
        server.scenario.check("live", await stream)
        return server.scenario.found


async def cancel_a_background_run(folder: Path) -> list[str]:
    """A run in the background is polled, continued and cancelled while it runs."""
    async with live(folder) as server:
        await server.steps("161")
        await server.gate.reached.wait()
        await server.steps("162", "163", "164", "165")
        return server.scenario.found


async def resume_a_running_run(folder: Path) -> list[str]:
    """A client comes back to a run that is still running, knowing all that happened so far."""
    async with live(folder) as server:
        await server.steps("r01")
        log = server.follow("r01")
        await server.wire.saw("slow answer ", times=SLOW_PIECES_BEFORE, at=0)
        await server.steps("r02")
        stream = server.start("r03")
        await server.wire.saw("event: subscribed", at=1)
        server.gate.opened.set()
        server.scenario.check("r03", await stream)
        await log
        return server.scenario.found


async def resume_after_a_restart(folder: Path) -> list[str]:
    """The server goes away under a running run and a finished one; clients come back to both."""
    async with live(folder) as server:
        await server.steps("r04")
        await server.replay.settle("r04")
        await server.steps("r05", "r06", "r10")
        log = server.follow("r10")
        await server.wire.saw("slow answer ", times=SLOW_PIECES_BEFORE, at=3)
        answers = server.replay.answers
        found = server.scenario.found
        log.cancel()
        await asyncio.wait([log])
    async with live(folder) as server:
        server.replay.answers.update(answers)
        log = server.follow("r10")
        await server.wire.saw("slow answer ", times=2 * SLOW_PIECES_BEFORE, at=0)
        await server.steps("r11")
        stream = server.start("r12")
        await server.wire.saw("event: subscribed", at=1)
        await server.steps("r14", "r13")
        server.gate.opened.set()
        server.scenario.check("r12", await stream)
        await log
        return found + server.scenario.found


async def resume_while_a_tool_runs(folder: Path) -> list[str]:
    """A run is continued in the background; while its tool runs, another client attaches."""
    async with live(folder) as server:
        form = {"message": "slowtool", "session_id": "ka", "user_id": "alice", "stream": "false"}
        created = await server.replay.client.post("/agents/hitl/runs", data=form)
        server.replay.answers["r19"] = Answer(created.status_code, "application/json", created.json())
        first = server.start("r20")
        await server.gate.reached.wait()
        second = server.start("r21")
        await server.wire.saw("event: subscribed", at=1)
        server.gate.opened.set()
        server.scenario.check("r20", await first)
        server.scenario.check("r21", await second)
        return server.scenario.found


LIVE: Final[Mapping[str, Callable[[Path], Awaitable[list[str]]]]] = MappingProxyType(
    {
        "live_cancel": cancel_a_streamed_run,
        "live_background": cancel_a_background_run,
        "live_resume": resume_a_running_run,
        "live_restart": resume_after_a_restart,
        "live_keepalive": resume_while_a_tool_runs,
    }
)
