"""Commands of Unpause as real processes that need not load for seconds: each is forked from one that has loaded all.

This file has two sides. As a program it is the process that loads everything once and forks, `preload` beside the
tests; as a module it starts that program when the first command is asked for and ends it with the tests' process.
A started command is as one of ``subprocess``: own process id, environment, folder, output, signals and exit code.

The agent processes of such a server are forked, too, by its own parent: they load for two seconds otherwise. With
TEST_EXECUTES_AGENTS in its environment the server starts them itself, as outside the tests. The schema of a new SQLite
file is copied, where a server starts a process that makes it and loads for a second.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Final

from coverage import Coverage

from tests.support.engines import quicken_engines
from unpause.agents.process import launch
from unpause.store.engine import ownership
from unpause.store.engine.database import database_file
from unpause.testing.environment import migrated_sqlite_file

_LOADED: Final = (
    *("unpause.cli.serve", "unpause.cli.server_process", "unpause.cli.worker", "unpause.cli.worker_process"),
    *("unpause.api.routes", "unpause.cli.agent_process", "unpause.cli.agent_server"),
    *("unpause.cli.db", "unpause.cli.tokens", "unpause.cli.documents"),
    *("pydantic_ai", "pydantic_ai.models.function", "pydantic_ai.models.openai", "psycopg"),
)
_ROOT: Final = Path(__file__).parents[2]
# Of a request.
REQUEST_BYTES: Final = 1 << 17
# The name of a forked one.
AGENT_PROCESS: Final = "agent_process"


class Forked:
    """A process that another one forks, and waits for; what of ``subprocess.Popen`` is used of it.

    ``report`` is a pipe with its process id and then how it ended.
    """

    def __init__(self, report: int) -> None:
        self._report = report
        self.pid = self._reported()
        self._returncode: int | None = None
        self._waiting = threading.Lock()

    def poll(self) -> int | None:
        """Return the exit code, negative if a signal ended the process, or None while it runs."""
        # Whoever waits in another thread finds it.
        if self._returncode is None and self._waiting.acquire(blocking=False):
            try:
                self._look(0)
            finally:
                self._waiting.release()
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until the process has ended and return its exit code. From any thread."""
        with self._waiting:
            self._look(timeout)
        if self._returncode is None:
            raise subprocess.TimeoutExpired("unpause", timeout or 0.0)
        return self._returncode

    def _look(self, timeout: float | None) -> None:
        if self._returncode is None and select.select([self._report], [], [], timeout)[0]:
            self._returncode = os.waitstatus_to_exitcode(self._reported())
            os.close(self._report)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.poll() is None:
            # It may have ended a moment ago, with its report still on the way.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _reported(self) -> int:
        return int.from_bytes(os.read(self._report, 4), "big")


class Command(Forked):
    """`python -m unpause …` in a process of its own."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.stdout, out = _pipe()
        self.stderr, err = _pipe()
        request = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
        with Path(os.devnull).open("rb") as nothing:
            report = start_command(request, (nothing.fileno(), out, err))
        for provided in (out, err):
            os.close(provided)
        super().__init__(report)


def start_command(request: bytes, standard: tuple[int, int, int]) -> int:
    """Start a command with these files for input, output and errors.

    Return a pipe with its process id and then how it ended, as ``os.waitpid`` has it; each has four bytes.
    """
    reading, report = os.pipe()
    socket.send_fds(_preloading(), [request], [*standard, report])
    os.close(report)
    return reading


def _pipe() -> tuple[IO[str], int]:
    reading, writing = os.pipe()
    return os.fdopen(reading, encoding="utf-8", errors="replace"), writing


@cache
def _preloading() -> socket.socket:
    """Return the connection to the process that has everything loaded; the same one for the whole test run."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for side in (ours, theirs):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, REQUEST_BYTES)
    with theirs:
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno()), migrated_sqlite_file()],
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(program.wait)
    atexit.register(ours.close)
    return ours


# -------------------------------------------------------------------------------- the other side


def _preload(connection: socket.socket, migrated: Path) -> None:
    """Load everything, then fork a process for each request until the tests' process is gone."""
    vars(ownership)["subprocess"] = _Copying(migrated)
    for name in _LOADED:
        importlib.import_module(name)
    quicken_engines()
    gc.freeze()
    # Ctrl-C ends the tests, and their end ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keepers: set[int] = set()
    while True:
        request, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 4)
        if not request:
            break
        keeper = os.fork()
        if keeper == 0:
            connection.close()
            _keep(request, files)
            return
        for file in files:
            os.close(file)
        keepers = {each for each in keepers | {keeper} if os.waitpid(each, os.WNOHANG)[0] == 0}
    # Waited for, so that their time counts as the tests'.
    for keeper in keepers:
        os.waitpid(keeper, 0)


def _keep(request: bytes, files: list[int]) -> None:
    """Fork the command, and agent processes for it until it ends; report the process id of each, and how it ended.

    Returns in their processes alone.
    """
    *standard, report = files
    keeper, (asking, requests) = os.getpid(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        requests.close()
        os.close(report)
        _redirect(*standard)
        arguments, folder, environment = json.loads(request)
        if "TEST_EXECUTES_AGENTS" not in environment:
            vars(launch)["subprocess"] = _Starting(asking)
        _become("unpause", arguments, folder, environment)
        return
    asking.close()
    for file in standard:
        os.close(file)
    # Of each process that this one waits for: a descriptor that is ready at its end, and where that is reported.
    waited = {os.pidfd_open(pid): (pid, report)}
    _report(report, pid)
    while pid in (each for each, _ in waited.values()):
        ready = select.select([*waited, requests.fileno()], [], [])[0]
        for descriptor in waited.keys() & ready:
            ended, report = waited.pop(descriptor)
            _report(report, os.waitpid(ended, 0)[1])
            os.close(descriptor)
            os.close(report)
        if requests.fileno() in ready:
            request, files, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 5)
            if request and _fork_agents(request, files, keeper, waited):
                return
    # Its agent processes end with their parent.
    os._exit(0)


def _fork_agents(request: bytes, files: list[int], keeper: int, waited: dict[int, tuple[int, int]]) -> bool:
    """Fork an agent process. Return whether this is the one, at its end."""
    link, stacks, out, err, report = files
    pid = os.fork()
    if pid > 0:
        waited[os.pidfd_open(pid)] = (pid, report)
        for file in (link, stacks, out, err):
            os.close(file)
        return False
    os.setsid()
    _report(report, os.getpid())
    os.close(report)
    for descriptor, (_, other) in waited.items():
        os.close(descriptor)
        os.close(other)
    _redirect(os.open(os.devnull, os.O_RDONLY), out, err)
    _become_agent_process([str(number) for number in (link, stacks, keeper)], *json.loads(request))
    return True


def _report(pipe: int, number: int) -> None:
    # Where nobody reads any more, nobody wants to know.
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, number.to_bytes(4, "big"))


def _redirect(*standard: int) -> None:
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)


def _become_agent_process(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    # Its name, as others see it.
    Path("/proc/self/comm").write_text(AGENT_PROCESS, encoding="ascii")
    # It becomes `__main__`.
    del sys.modules["unpause.cli.agent_process"]
    _become("unpause.cli.agent_process", arguments, folder, environment)


def _become(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    _save_coverage_before_signals()
    # As `python -m` has it.
    sys.path[0] = folder
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class _Starting:
    """What of the module ``subprocess`` a server starts its agent processes with: it asks its parent for them."""

    DEVNULL: Final = subprocess.DEVNULL

    def __init__(self, asking: socket.socket) -> None:
        self._asking = asking

    def Popen(  # noqa: N802 - its name there
        self,
        arguments: Sequence[str],
        *,
        stdout: int,
        stderr: int | None,
        env: Mapping[str, str],
        cwd: Path,
        pass_fds: tuple[int, int],
        **_: object,
    ) -> Forked:
        del arguments
        reading, report = os.pipe()
        request = json.dumps([str(cwd), dict(env)]).encode()
        socket.send_fds(self._asking, [request], [*pass_fds, stdout, 2 if stderr is None else stderr, report])
        os.close(report)
        return Forked(reading)


class _Copying:
    """What of the module ``subprocess`` a server makes the schema of a new file with: it copies one."""

    def __init__(self, migrated: Path) -> None:
        self._migrated = migrated

    def run(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        check: bool,
        **options: Any,  # noqa: ANN401 - as there
    ) -> subprocess.CompletedProcess[str]:
        file = database_file(env["UNPAUSE_DATABASE_URL"])
        assert file is not None
        ownership.create_private(file)
        try:
            shutil.copyfile(self._migrated, file)
        except OSError:
            # An error is reported as always.
            return subprocess.run(arguments, env=env, check=check, **options)
        return subprocess.CompletedProcess([*arguments], 0)


def _save_coverage_before_signals() -> None:
    """Save what was measured before the process raises the signal that ended it, as a server does: none outlives it."""
    measuring = Coverage.current()
    if measuring is None:
        return
    raise_signal = signal.raise_signal

    def save_and_raise(number: int) -> None:
        measuring.stop()
        measuring.save()
        raise_signal(number)

    signal.raise_signal = save_and_raise


if __name__ == "__main__":
    _preload(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
