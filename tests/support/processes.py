"""Server processes for tests: the real command, a real port and a real database file; and doors to meet tools at."""

from __future__ import annotations

import os
import queue
import re
import selectors
import shutil
import signal
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self, TypeAlias

import httpx

from tests.support.preloaded import Command
from unpause.testing.environment import migrated_sqlite_file

# Seconds for anything a test waits for. Reached only when something is wrong.
DEADLINE: Final = 60.0
# Seconds for a server to end in order when coverage is measured; one that is blocked does not.
_SAVING: Final = 10.0

# For clients of servers without TLS: reading whom the system trusts takes 15 ms for each client.
TRUSTS_NOBODY: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

AGENTS_FILE: Final = Path(__file__).parents[1] / "processes" / "agents_file.py"

# As a process with readable logs says it, or in a line of JSON; a worker listens nowhere.
_READY: Final = re.compile(r"Unpause (?:worker )?is ready(?: on (http://\S+))?\n")
_READY_LINE: Final = re.compile(r'(?=\{.*"event": "process ready")(?:.*"address": "([^"]+)")?.*\n')
# Proxies would stand between test and server; settings and keys of whoever runs the tests are not the tests'.
_LEFT_OUT: Final = re.compile(r"(?i).*_proxy|UNPAUSE_.*|OPENAI_.*|ANTHROPIC_.*|TEST_FOLDER")


def clean_environment(**added: str) -> dict[str, str]:
    """Return this process's environment without what could disturb a server under test, and with `added`."""
    kept = {name: value for name, value in os.environ.items() if not _LEFT_OUT.fullmatch(name)}
    # In most tests agents run in the server's own process: that starts in half the time.
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "UNPAUSE_AGENT_ENV": "TEST_FOLDER",
        "UNPAUSE_AGENT_PROCESSES": os.environ.get("TEST_AGENT_PROCESSES", "0"),
        **added,
    }


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Program(Protocol):
    """What of ``subprocess.Popen`` the tests use."""

    @property
    def pid(self) -> int: ...
    @property
    def stdout(self) -> IO[str]: ...
    @property
    def stderr(self) -> IO[str]: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None) -> int: ...
    def send_signal(self, number: signal.Signals) -> None: ...


Launch: TypeAlias = Callable[[list[str], Path, dict[str, str]], Program]


def unpause(*arguments: str | Path, folder: Path, **environment: str) -> Finished:
    """Run the command in `folder` until it ends by itself; one that does not fails the test."""
    command = Command([str(argument) for argument in arguments], folder, clean_environment(**environment))
    with command.stdout, command.stderr, ThreadPoolExecutor(2) as readers:
        outputs = [readers.submit(pipe.read) for pipe in (command.stdout, command.stderr)]
        try:
            returncode = command.wait(DEADLINE)
        finally:
            command.send_signal(signal.SIGKILL)
        stdout, stderr = (output.result(DEADLINE) for output in outputs)
    return Finished(returncode, stdout, stderr)


class ServerProcess:
    """`unpause serve` in a process of its own, on a free port, with its database in `folder`.

    As a context manager it is started, and at the end killed if it still runs. `start` after `kill` or `stop` is a
    restart on the same database. The agents of `agents_file.py` are served unless `options` name others. The database
    file is there before the first start, unless it `has_schema` not. `launch` starts another command than this code's.
    """

    def __init__(
        self,
        folder: Path,
        *options: str | Path,
        command: str = "serve",
        environment: Mapping[str, str] | None = None,
        has_schema: bool = True,
        launch: Launch = Command,
    ) -> None:
        self._launch = launch
        self.folder = folder
        self._has_schema = has_schema
        self.database = folder / "unpause.db"
        self._command = command
        self._options = [str(option) for option in options]
        self._environment = dict(environment or {})
        self._process: Program | None = None
        self._readers: list[threading.Thread] = []
        self._output: list[str] = []
        self.address = ""

    @property
    def output(self) -> str:
        """All that every process of this server wrote to standard output and standard error."""
        return "".join(self._output)

    @property
    def pid(self) -> int:
        """The process that runs now."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether a process was started that has not been waited for."""
        return self._process is not None

    @property
    def has_ended(self) -> bool:
        """Whether the process that was started has ended by itself."""
        return self._running().poll() is not None

    def start(self) -> None:
        """Start a process and wait until it says that it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._has_schema and "UNPAUSE_DATABASE_URL" not in self._environment and not self.database.exists():
            # Making it takes a few hundred waits for the disk.
            shutil.copyfile(migrated_sqlite_file(), self.database)
        agents = [] if self._command == "demo" or "--agents" in self._options else ["--agents", str(AGENTS_FILE)]
        port = [] if self._command == "worker" else ["--port", "0"]
        self._process = self._launch(
            [self._command, *port, *agents, *self._options],
            self.folder,
            clean_environment(
                **{
                    "TEST_FOLDER": str(self.folder),
                    "UNPAUSE_DATABASE_URL": f"sqlite:///{self.database}",
                    # Nobody is asked for a token; tests of tokens say otherwise.
                    "UNPAUSE_DEV": "true",
                    **self._environment,
                }
            ),
        )
        ready: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, ready))
            for pipe in (self._process.stdout, self._process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        self.address = self._wait_until_ready(ready)

    def kill(self) -> None:
        """End the process with SIGKILL, as a crash of the machine would."""
        self.send(signal.SIGKILL)
        self.wait_for_end()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask the process to stop, with SIGTERM or SIGINT; return its exit code."""
        self.send(number)
        return self.wait_for_end()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that runs now."""
        self._running().send_signal(number)

    def wait_for_end(self) -> int:
        """Wait until the process has ended; return its exit code, negative if a signal ended it."""
        returncode = self._running().wait(DEADLINE)
        for reader in self._readers:
            reader.join(DEADLINE)
        self._process = None
        return returncode

    def client(self, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx's own options
        """Return a client of the process that runs now."""
        return httpx.Client(base_url=self.address, timeout=DEADLINE, trust_env=False, verify=TRUSTS_NOBODY, **options)

    def rows(self, query: str) -> list[Any]:
        """Return what the query finds in the database file; only while no process runs."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(query).fetchall()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _read(self, pipe: IO[str], ready: queue.SimpleQueue[str | None]) -> None:
        with pipe:
            for line in pipe:
                self._output.append(line)
                if found := _READY.fullmatch(line) or _READY_LINE.fullmatch(line):
                    ready.put(found[1] or "")
        ready.put(None)

    def _wait_until_ready(self, ready: queue.SimpleQueue[str | None]) -> str:
        try:
            address = ready.get(timeout=DEADLINE)
        except queue.Empty:
            address = None
        if address is None:
            message = f"the server did not become ready; it wrote:\n{self.output}"
            raise AssertionError(message)
        return address

    def _running(self) -> Program:
        if self._process is None:
            message = "no process of this server runs"
            raise AssertionError(message)
        return self._process

    def _clean_up(self) -> None:
        if self._process is None:
            return
        if "COVERAGE_PROCESS_CONFIG" in os.environ:
            # A process that is killed leaves nothing of what was measured in it.
            self.send(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_SAVING)
        self.kill()


class Barrier:
    """Where a test meets a tool or model of a server: it waits until someone is there, and lets them go on.

    Two FIFOs in `folder`, `NAME.arrived` and `NAME.leave`; `agents_file.py` has the other side. The test holds both
    open for reading and writing, so that no side waits for the other to open one, and a killed server breaks nothing.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._arrived = _fifo(folder / f"{name}.arrived")
        self._leave = _fifo(folder / f"{name}.leave")

    def wait_for_arrival(self) -> None:
        """Return once somebody is at the door; each arrival counts once."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._arrived, selectors.EVENT_READ)
            if not selector.select(DEADLINE):
                message = "nobody came to the door"
                raise AssertionError(message)
        os.read(self._arrived, 1)

    def is_awaited(self) -> bool:
        """Whether an arrival is there that nobody has waited for."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._arrived, selectors.EVENT_READ)
            return bool(selector.select(0))

    def let_go(self) -> None:
        """Let one go on, whether it is there already or comes later."""
        os.write(self._leave, b".")

    def close(self) -> None:
        """Give the FIFOs up."""
        os.close(self._arrived)
        os.close(self._leave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _fifo(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)
