"""Scenarios with published clients: a process in the client's own environment that runs them one after the other."""

from __future__ import annotations

import json
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.support.client_environments import ROOT, agno_environment, codegen_environment, foreign_environment

# Seconds for one scenario on a busy machine.
_SCENARIO_DEADLINE: Final = 90.0


class ScenarioError(AssertionError):
    """The client raised something that its scenario did not expect; the message is the traceback."""


class ScenarioProcess:
    """A published client, in a process of its own that runs the scenarios it is told.

    ``command`` starts it, with ``added`` in its environment. That is done with the first scenario, because to import
    a client can take seconds; one process serves them all.
    """

    def __init__(self, title: str, command: Sequence[str], **added: str) -> None:
        self._title = title
        self._command = list(command)
        self._environment = foreign_environment(**added)
        self._process: subprocess.Popen[str] | None = None
        self._noise = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed in `close`

    def run(self, scenario: str, **inputs: object) -> Any:  # noqa: ANN401 - whatever JSON the scenario returns
        """Run `MODULE.FUNCTION` of the package with the client; return what it returns.

        Raises ScenarioError with the traceback where it raises, and with what the client logged where it logged an
        error: it logs what it cannot read, and goes on without it.
        """
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps({"scenario": scenario, "inputs": inputs}) + "\n")
        process.stdin.flush()
        answer = json.loads(self._line(process))
        if answer["failed"]:
            raise ScenarioError(answer["failed"])
        if answer["logged"]:
            message = f"{self._title} logged: {answer['logged']}"
            raise ScenarioError(message)
        return answer["returned"]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None
        self._noise.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._noise,
                text=True,
            )
        return self._process

    def _line(self, process: subprocess.Popen[str]) -> str:
        """Return the next line of the process; one that says nothing in time is killed, and the test fails."""
        found: deque[str] = deque()
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: found.append(process.stdout.readline()))  # type: ignore[union-attr]
        reader.start()
        reader.join(_SCENARIO_DEADLINE)
        if not found or not found[0]:
            process.kill()
            reader.join()
            self._noise.seek(0)
            message = f"the process with {self._title} gave no answer; it wrote:\n{self._noise.read()}"
            raise ScenarioError(message)
        return found[0]


class AgnoClient(ScenarioProcess):
    """Agno's client of one version; raises ClientUnavailableError where it cannot be installed."""

    def __init__(self, version: str, address: str) -> None:
        self.version = version
        python = agno_environment(version)
        super().__init__(
            f"agno {version}", [str(python), "-m", "tests.clients.scenarios", address], AGNO_TELEMETRY="false"
        )


class CodegenClient(ScenarioProcess):
    """Codegen's client of one version, and its SDK; raises ClientUnavailableError where they cannot be installed.

    The SDK looks for its settings in ``home``, which stands for the user's own folder.
    """

    def __init__(self, version: str, address: str, home: Path) -> None:
        python = codegen_environment(version)
        command = [str(python), "-m", "tests.clients.codegen_scenarios", address]
        super().__init__(f"codegen-api-client {version}", command, HOME=str(home))
