"""Runs the command in this process, for what ends before a server would start: the same code, without its start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog

from tests.support.processes import Finished
from unpause.cli.main import main


class Here:
    """The command `unpause`, run in a folder and with an environment of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        monkeypatch.chdir(folder)
        for name in [name for name in os.environ if name.startswith("UNPAUSE_")]:
            monkeypatch.delenv(name)
        # A process of its own for agents would be started for a command that ends at once.
        monkeypatch.setenv("UNPAUSE_AGENT_PROCESSES", "0")

    def run(self, *arguments: str) -> Finished:
        """Run the command; return how it ended."""
        code: int | str | None = 0
        configured = structlog.get_config() if structlog.is_configured() else None
        try:
            main(arguments)
        except SystemExit as end:
            code = end.code
        finally:
            structlog.reset_defaults()
            if configured is not None:
                structlog.configure(**configured)
        written = self._capsys.readouterr()
        return Finished(int(code or 0), written.out, written.err)
