"""What comes about while a process is taken into service, or agents are loaded anew: a stop, a reload, its failure."""

from __future__ import annotations

import asyncio
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.agents.process.test_link import Memory
from tests.agents.process.test_messages import SEGMENT
from unpause.agents.driver import Paused
from unpause.agents.process import supervisor
from unpause.agents.process.frames import agent_frames
from unpause.agents.process.launch import AgentLauncher
from unpause.agents.process.messages import Ready
from unpause.agents.process.rules import ProcessRules
from unpause.agents.process.supervisor import AgentProcesses
from unpause.errors import InvalidSetting

_RULES = ProcessRules(processes=1, cancel_seconds=1, drain_seconds=1, reloads=True)


class Process:
    """What stands for a process and its client; its gates are open, unless a test closes them."""

    def __init__(self, pid: int, *, agent: str = "a", refuses: bool = False) -> None:
        self.pid = pid
        self.agent = agent
        self.refuses = refuses
        self.ready = Ready((), None, (str(pid),))
        self.has_died = self.is_draining = False
        self.source_files: tuple[str, ...] = ()
        self.is_attaching, self.may_attach, self.may_warm, self.ended = (asyncio.Event() for _ in range(4))
        self.may_attach.set()
        self.may_warm.set()
        self.link = SimpleNamespace(
            busy=0, running=0, memory=0, cancelled={}, segments_run=0, last_message_at=inf, request_release=lambda: None
        )

    async def wait_until_warm(self) -> None:
        await self.may_warm.wait()

    def configure(self) -> None:
        pass

    def receive_ready(self) -> Ready:
        if self.refuses:
            raise InvalidSetting("agents: no")
        return self.ready

    async def attach(self) -> None:
        self.is_attaching.set()
        await self.may_attach.wait()

    def serves(self, agent_id: str) -> bool:
        return agent_id == self.agent

    async def listen(self) -> None:
        await self.ended.wait()

    async def shut_down(self) -> None:
        self.kill()

    def kill(self) -> None:
        self.has_died = True
        self.ended.set()

    def describe_end(self) -> str:
        return "killed"


def supervised(monkeypatch: pytest.MonkeyPatch, first: Process, *later: Process) -> AgentProcesses:
    """Return a supervisor of these processes, of which the first was started with the server."""
    monkeypatch.setattr(supervisor, "AgentProcessClient", lambda process: process)
    launcher = AgentLauncher(b"", {}, Path(), agent_frames(1, 1), collects_output=False)
    waiting: list[Any] = list(later)
    monkeypatch.setattr(AgentLauncher, "take", lambda _: waiting.pop(0))
    monkeypatch.setattr(AgentLauncher, "prepare_spare", lambda _: None)
    launched: list[Any] = [first]
    return AgentProcesses(launcher, _RULES, launched)


async def test_a_stop_ends_a_process_that_is_just_taken_into_service(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(1)
    process.may_attach.clear()
    async with asyncio.timeout(10):
        async with supervised(monkeypatch, process).running():
            await process.is_attaching.wait()
            asyncio.get_running_loop().call_later(0.01, process.may_attach.set)
    assert process.has_died


async def test_a_process_of_the_agents_before_a_reload_is_not_taken_into_service_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = Process(1), Process(2)
    old.may_attach.clear()
    served: list[Ready] = []
    processes = supervised(monkeypatch, old, new)
    monkeypatch.setattr(processes, "_serve", served.append)
    async with asyncio.timeout(10), processes.running():
        await old.is_attaching.wait()
        assert await processes.reload()
        old.may_attach.set()
        await old.ended.wait()
        assert not new.has_died
        chosen: Any = await processes._choose("a")  # noqa: SLF001 - what a segment waits for
        assert chosen is new
    assert served[-1] is new.ready


async def test_a_segment_that_waits_for_a_reload_is_given_back_when_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    serving, new = Process(1), Process(2, refuses=True)
    new.may_warm.clear()
    journal: Any = Memory()
    processes = supervised(monkeypatch, serving, new)
    async with asyncio.timeout(10), processes.running():
        await serving.is_attaching.wait()
        reloading = asyncio.create_task(processes.reload())
        # Its agent is served no more; the reload may bring it back.
        waiting = asyncio.create_task(processes.run_segment("b", SEGMENT, journal))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        new.may_warm.set()
        assert not await reloading
        assert await waiting == Paused(requests=())
    assert journal.stop_requested
