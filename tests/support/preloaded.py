"""Commands of Unpause as real processes that need not load for seconds: each is forked from one that has loaded all.

This file has two sides. As a program it is the process that loads everything once and forks, `preload` beside the
tests; as a module it starts that program when the first command is asked for and ends it with the tests' process.
A started command is as one of ``subprocess``: own process id, environment, folder, output, signals and exit code.
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
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Final

from coverage import Coverage

from tests.support.engines import quicken_engines

_LOADED: Final = (
    *("unpause.cli.serve", "unpause.cli.server", "unpause.cli.worker", "unpause.cli.executing"),
    *("unpause.cli.db", "unpause.cli.tokens", "unpause.cli.documents"),
    *("pydantic_ai", "pydantic_ai.models.function", "pydantic_ai.models.openai", "psycopg"),
)
_ROOT: Final = Path(__file__).parents[2]
_REQUEST_BYTES: Final = 1 << 17


class Command:
    """`python -m unpause …` in a process of its own; what of ``subprocess.Popen`` the tests use."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.stdout, out = _pipe()
        self.stderr, err = _pipe()
        self._report, report = os.pipe()
        request = json.dumps([list(arguments), str(folder), dict(environment)]).encode()
        socket.send_fds(_preloading(), [request], [out, err, report])
        for provided in (out, err, report):
            os.close(provided)
        self.pid = self._reported()
        self._returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative if a signal ended the process, or None while it runs."""
        if self._returncode is None and select.select([self._report], [], [], 0)[0]:
            return self.wait(None)
        return self._returncode

    def wait(self, timeout: float | None) -> int:
        """Wait until the process has ended and return its exit code."""
        if self._returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("unpause", timeout or 0.0)
            self._returncode = os.waitstatus_to_exitcode(self._reported())
            os.close(self._report)
        return self._returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.poll() is None:
            # It may have ended a moment ago, with its report still on the way.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def _reported(self) -> int:
        return int.from_bytes(os.read(self._report, 4), "big")


def _pipe() -> tuple[IO[str], int]:
    reading, writing = os.pipe()
    return os.fdopen(reading, encoding="utf-8", errors="replace"), writing


@cache
def _preloading() -> socket.socket:
    """Return the connection to the process that has everything loaded; the same one for the whole test run."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for side in (ours, theirs):
        side.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST_BYTES)
    with theirs:
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.support.preloaded", str(theirs.fileno())],
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
    atexit.register(program.wait)
    atexit.register(ours.close)
    return ours


# -------------------------------------------------------------------------------- the other side


def _preload(connection: socket.socket) -> None:
    """Load everything, then fork a process for each request until the tests' process is gone."""
    for name in _LOADED:
        importlib.import_module(name)
    quicken_engines()
    gc.freeze()
    # Ctrl-C ends the tests, and their end ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keepers: set[int] = set()
    while True:
        request, files, _, _ = socket.recv_fds(connection, _REQUEST_BYTES, 3)
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
    """Fork the command and report its process id and then how it ended. Returns in the command's process alone."""
    out, err, report = files
    pid = os.fork()
    if pid == 0:
        os.close(report)
        os.dup2(out, 1)
        os.dup2(err, 2)
    os.close(out)
    os.close(err)
    if pid == 0:
        _become(*json.loads(request))
        return
    os.write(report, pid.to_bytes(4, "big"))
    os.write(report, os.waitpid(pid, 0)[1].to_bytes(4, "big"))
    os._exit(0)


def _become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    _save_coverage_before_signals()
    # As `python -m` has it.
    sys.path[0] = folder
    sys.argv[1:] = arguments
    runpy.run_module("unpause", run_name="__main__", alter_sys=True)


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
    _preload(socket.socket(fileno=int(sys.argv[1])))
