"""A command on a terminal of its own: a pseudo-terminal whose screen the tests read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from tests.support.processes import DEADLINE, clean_environment

# To the corner, and clear from there on.
HOME: Final = "\x1b[H\x1b[J"


class Screen:
    """`unpause` on a terminal; as a context manager it is killed at the end if it still runs."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], columns: int = 80, lines: int = 24) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._text = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "unpause", *arguments],
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            start_new_session=True,
            env=clean_environment(**{"TERM": "xterm", **environment}),
        )

    @property
    def shown(self) -> list[str]:
        """The lines that were painted last."""
        return self._text.rpartition(HOME)[2].splitlines()

    def read_until(self, is_there: Callable[[list[str]], bool]) -> list[str]:
        """Return the lines once they are as a test expects them."""
        until = time.monotonic() + DEADLINE
        while not is_there(self.shown):
            assert time.monotonic() < until, self._text
            self._read(0.1)
        return self.shown

    def write(self, text: str) -> None:
        """Type a text."""
        os.write(self._ours, text.encode())

    def interrupt(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code."""
        code = self._process.wait(DEADLINE)
        while self._read(0):
            pass
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._ours)
        os.close(self.theirs)

    def _read(self, seconds: float) -> bool:
        """Read what is there; return whether something was."""
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self._text += os.read(self._ours, 65536).decode("utf-8", "replace")
        return True
