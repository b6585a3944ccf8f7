"""Runs the commands for people: in this process for one user, on a terminal, or as a process."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.cli.here import Here
from tests.support.preloaded import Command
from tests.support.processes import DEADLINE, Finished, ServerProcess, clean_environment

AGENTS_FILE: Final = Path(__file__).with_name("agents_file.py")


class Terminal(io.StringIO):
    """Standard output that is a terminal."""

    def isatty(self) -> bool:
        return True


class Shell:
    """Somebody's shell: the server's URL and a token in its environment."""

    def __init__(self, here: Here, monkeypatch: pytest.MonkeyPatch, url: str, token: str | None) -> None:
        self._here = here
        self.folder = here.folder
        self._patch = monkeypatch
        self.environment = {
            "UNPAUSE_URL": url,
            "XDG_CONFIG_HOME": str(here.folder / "config"),
            **({"UNPAUSE_TOKEN": token} if token else {}),
        }
        for name in ("UNPAUSE_URL", "UNPAUSE_TOKEN", "NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)

    def run(self, *arguments: str) -> Finished:
        """Run the command with its output in a pipe."""
        with self._patch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return self._here.run(*arguments)

    def lines(self, *arguments: str) -> list[str]:
        """Return the lines that a command prints; fail unless it succeeds."""
        done = self.run(*arguments)
        assert done.returncode == 0, done
        return done.stdout.splitlines()

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - whatever is JSON
        """Return what the command prints with --json."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def on_terminal(self, *arguments: str, columns: int = 80) -> list[str]:
        """Return the lines that the command prints on a terminal of this width."""
        screen = Terminal()
        with self._patch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            patch.setenv("COLUMNS", str(columns))
            assert self.run(*arguments).returncode == 0
        return screen.getvalue().splitlines()

    def typed(self, text: str, *arguments: str) -> Finished:
        """Run the command with this text in its standard input."""
        with self._patch.context() as patch:
            patch.setattr(sys, "stdin", io.StringIO(text))
            return self.run(*arguments)

    def start(self, *arguments: str) -> Command:
        """Start the command as a process of its own."""
        return Command(list(arguments), self._here.folder, clean_environment(**self.environment))

    def settle(self, calls: object, agent: str = "ops", **form: str) -> dict[str, Any]:
        """Start a run that makes these calls; return it once it waits for people or has ended."""
        answered = httpx.post(
            f"{self.environment['UNPAUSE_URL']}/agents/{agent}/runs",
            data={"message": json.dumps(calls), "stream": "false", **form},
            headers={"Authorization": f"Bearer {self.environment['UNPAUSE_TOKEN']}"},
            timeout=DEADLINE,
            trust_env=False,
        )
        run: dict[str, Any] = answered.json()
        return run

    def wait_for(self, calls: object, agent: str = "ops") -> str:
        """Start a run that makes these calls, and return its id once it waits for people."""
        run = self.settle(calls, agent)
        assert run["status"] == "PAUSED", run
        return str(run["run_id"])


def people_server(folder: Path, *options: str) -> ServerProcess:
    """Return a server of the agents that the tests of the command line work with; it needs tokens."""
    return ServerProcess(folder, "--agents", AGENTS_FILE, *options, environment={"UNPAUSE_DEV": "false"})
