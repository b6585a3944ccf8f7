"""Processes that stand by for the next load of the agents."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from unpause.agents.process import launch
from unpause.agents.process.frames import agent_frames
from unpause.agents.process.launch import AgentLauncher


class Started:
    """What stands for a process that was started."""

    def __init__(self, launcher: AgentLauncher) -> None:
        self._config = launcher.config
        self.ended: int | None = None
        self.has_died = False
        self.configs: list[bytes] = []
        self.process = SimpleNamespace(poll=lambda: self.ended)
        self.socket = SimpleNamespace(close=lambda: None)

    def configure(self) -> None:
        self.configs.append(self._config)

    def kill(self) -> None:
        self.has_died = True


def test_two_processes_stand_by_and_those_that_have_ended_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Started] = []

    def start(launcher: AgentLauncher) -> Started:
        started.append(Started(launcher))
        return started[-1]

    monkeypatch.setattr(launch, "LaunchedProcess", start)
    launcher = AgentLauncher(b"config", {}, Path(), agent_frames(1, 1), collects_output=False)
    for _ in range(3):
        launcher.prepare_spare()
    assert len(started) == 2
    launcher.launch()
    assert [each.configs for each in started] == [[b"config"], []]
    started[1].ended = 1
    launcher.launch()
    assert [each.configs for each in started] == [[b"config"], [], [b"config"]]
    launcher.prepare_spare()
    launcher.end_spares()
    assert [each.has_died for each in started] == [False, True, False, True]
