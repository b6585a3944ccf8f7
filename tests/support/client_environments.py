"""Published clients under test: an environment of its own for each version, and a process in it that speaks to us."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import venv
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from filelock import FileLock

from tests.support.processes import clean_environment

ROOT: Final = Path(__file__).resolve().parents[2]

# Seconds: for pip on a slow line, and for one scenario on a busy machine.
_INSTALL_DEADLINE: Final = 420.0
_SCENARIO_DEADLINE: Final = 90.0

_STAMP: Final = "made-with.txt"

# What `agno.client` imports, and no more: agno names neither FastAPI as a dependency, which its client needs, nor
# does its client need all that agno names. All of it is pinned, so that nothing is looked up but these.
_REQUIREMENTS: Final = (
    "annotated-doc==0.0.7",
    "annotated-types==0.8.0",
    "anyio==4.16.0",
    "certifi==2026.10.18",
    "docstring-parser==0.18.0",
    "fastapi==0.129.0",
    "h11==0.16.0",
    "h2==4.4.1",
    "hpack==4.2.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "hyperframe==6.1.0",
    "idna==3.20",
    "markdown-it-py==4.3.0",
    "mdurl==0.1.2",
    "packaging==26.3",
    "pydantic==2.14.3",
    "pydantic-core==2.50.4",
    "pydantic-settings==2.16.3",
    "pygments==2.21.0",
    "python-dotenv==1.2.4",
    "python-multipart==0.0.34",
    "rich==15.0.0",
    "starlette==0.52.1",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
)


class ClientUnavailableError(RuntimeError):
    """The published client could not be installed; the message says why."""


class ScenarioError(AssertionError):
    """The client raised something that its scenario did not expect; the message is the traceback."""


def agno_environment(version: str) -> Path:
    """Return the Python of the environment `.venv-agno-VERSION` at the top level, made when it is missing.

    It is kept between test sessions, and made by one process however many ask at once. Raises
    ClientUnavailableError when pip cannot install it.
    """
    environment = ROOT / f".venv-agno-{version}"
    python = environment / "bin" / "python"
    requirements = [f"agno=={version}", *_REQUIREMENTS]
    made_with = "\n".join([sys.version, str(environment), *requirements])
    wanted = hashlib.sha256(made_with.encode()).hexdigest()
    stamp = environment / _STAMP
    with FileLock(ROOT / f".venv-agno-{version}.lock", timeout=_INSTALL_DEADLINE):
        if not stamp.is_file() or stamp.read_text(encoding="ascii") != wanted:
            venv.create(environment, clear=True, with_pip=False, symlinks=True)
            _install(python, requirements)
            # Last: an environment without the stamp is made anew.
            stamp.write_text(wanted, encoding="ascii")
    return python


def _install(python: Path, requirements: list[str]) -> None:
    """Install exactly these into that Python, with the pip of the Python that runs the tests."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    quiet = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"]
    named = f"{requirements[0]} and {len(requirements) - 1} pinned packages"
    try:
        done = subprocess.run(
            [*pip, *quiet, "--no-deps", "--no-compile", *requirements],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"pip took more than {_INSTALL_DEADLINE:.0f} s to install the published client: {named}"
        raise ClientUnavailableError(message) from None
    if done.returncode != 0:
        message = (
            "the tests with the published Agno clients need them from the package registry, once, and pip could not "
            f"install them ({named}). It says:\n{done.stdout}{done.stderr}"
        )
        raise ClientUnavailableError(message)


def _environment(**added: str) -> dict[str, str]:
    """Return this process's environment without what would bring our own packages into the client's."""
    return {name: value for name, value in clean_environment(**added).items() if name != "PYTHONPATH"}


class AgnoClient:
    """The published client of one version, in a process of its own that runs the scenarios it is told.

    The process is started with the first scenario, because to import agno takes seconds, and serves all of them.
    """

    def __init__(self, version: str, python: Path, address: str) -> None:
        self.version = version
        self._python = python
        self._address = address
        self._process: subprocess.Popen[str] | None = None
        self._noise = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed in `close`

    def run(self, scenario: str, **inputs: object) -> Any:  # noqa: ANN401 - whatever JSON the scenario returns
        """Run `MODULE.FUNCTION` of `tests/clients/scenarios` with the client; return what it returns.

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
            message = f"agno {self.version} logged: {answer['logged']}"
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
                [str(self._python), "-m", "tests.clients.scenarios", self._address],
                cwd=ROOT,
                env=_environment(AGNO_TELEMETRY="false"),
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
            message = f"the process of agno {self.version} gave no answer; it wrote:\n{self._noise.read()}"
            raise ScenarioError(message)
        return found[0]
