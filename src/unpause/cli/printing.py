"""What agents print that run in the server's own process: lines of its log, where that has JSON lines."""

from __future__ import annotations

import io
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Final, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.settings import Settings

_log = structlog.get_logger(__name__)

_LONGEST: Final = 8_192


@contextmanager
def printing_to_log(settings: Settings) -> Iterator[None]:
    """Log what is printed in this process during the block; with readable logs, and on a terminal, it stays."""
    if settings.readable_logs or sys.stdout.isatty():
        yield
        return
    with redirect_stdout(LoggedOutput(sys.stdout)):
        yield


class LoggedOutput(io.TextIOBase):
    """A standard output of which each line is logged once it is complete; from any thread.

    ``plain`` gets what the log itself prints, where an author has it write to standard output.
    """

    def __init__(self, plain: TextIO) -> None:
        self._plain = plain
        self._rest = ""
        self._lock = threading.Lock()
        self._logging = threading.local()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Log the lines that are complete now; what is longer than a line may be is logged in pieces."""
        if getattr(self._logging, "is_busy", False):
            return self._plain.write(text)
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            if len(self._rest) > _LONGEST:
                lines.append(self._rest)
                self._rest = ""
        self._logging.is_busy = True
        try:
            for line in filter(str.strip, lines):
                _log.info("agent output", text=line[:_LONGEST] + "…" * (len(line) > _LONGEST))
        finally:
            self._logging.is_busy = False
        return len(text)
