"""What an agent process prints: each line becomes a line of the server's log, within limits of length and rate.

Tools print, libraries warn, and native code writes what it likes. In the log of the server it must neither stand in
plain text between lines of JSON nor look like a line of the server's own, nor fill the disk.
"""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

_log = structlog.get_logger(__name__)

_READ_BYTES: Final = 65_536
# Of a line of the process's own log, which may hold a traceback, and of any other.
_LONGEST_LINE: Final = 65_536
_LONGEST_TEXT: Final = 8_192
# A process may print so many lines a second, and as many as in ten seconds at once.
_LINES_A_SECOND: Final = 100
_BURST: Final = 10 * _LINES_A_SECOND
# After a piece of which nothing is logged: a process that prints without end is slowed down, and this one kept free.
_REST_SECONDS: Final = 0.01
# Fields of the process's own log, which the server's log has, too.
_OWN: Final = frozenset({"event", "level", "timestamp", "node"})
# A tool may print a line like those, or log such fields: parameters of a logger's methods, and what this adds.
_TAKEN: Final = frozenset({"self", "args", "pid", "exc_info", "stack_info"})
# Of what may be the log's own line in one that begins otherwise.
_MAX_STARTS: Final = 4
_LEVELS: Final = frozenset({"debug", "info", "warning", "error", "critical"})


class OutputReader:
    """Reads one process's standard output and standard error in a thread, until both are closed."""

    def __init__(self, descriptor: int, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._pid = pid
        self._clock = clock
        self._rest = b""
        self._is_cut = False
        self._budget = float(_BURST)
        self._dropped = 0
        self._last = clock()

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name=f"output of agent process {self._pid}", daemon=True).start()

    def _read(self) -> None:
        with os.fdopen(self._descriptor, "rb", buffering=0) as file:
            while data := file.read(_READ_BYTES):
                before = self._dropped
                self.take(data)
                if self._dropped > before:
                    time.sleep(_REST_SECONDS)
        self.take(b"\n" if self._rest else b"")
        self._report_dropped()

    def take(self, data: bytes) -> None:
        """Log the lines that are complete; keep the beginning of the last one."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._is_cut:
                self._log_line(line)
            self._is_cut = False
        self._rest = b"" if self._is_cut else rest
        if len(self._rest) > _LONGEST_LINE:
            # Its end will not be logged, however long that is.
            self._log_line(self._rest)
            self._rest, self._is_cut = b"", True

    def _log_line(self, line: bytes) -> None:
        if not line.strip():
            return
        if not self._may_log():
            self._dropped += 1
            return
        self._report_dropped()
        printed, own = _split(line)
        if printed:
            text = printed[:_LONGEST_TEXT].decode(errors="replace")
            _log.info("agent process output", pid=self._pid, text=text + "…" * (len(printed) > _LONGEST_TEXT))
        if own is not None:
            self._log_own(own)

    def _log_own(self, own: dict[str, Any]) -> None:
        level = own.get("level")
        log = getattr(_log, level if level in _LEVELS else "info")
        fields = {f"{key}_" if key in _TAKEN else key: value for key, value in own.items() if key not in _OWN}
        log(str(own["event"]), pid=self._pid, **fields)

    def _may_log(self) -> bool:
        now = self._clock()
        self._budget = min(float(_BURST), self._budget + (now - self._last) * _LINES_A_SECOND)
        self._last = now
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    def _report_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            _log.warning("agent process output dropped", pid=self._pid, lines=dropped)


def _split(line: bytes) -> tuple[bytes, dict[str, Any] | None]:
    """Return what was printed, perhaps without an end of line, and the fields of the log's own line behind it."""
    start = -1
    for _ in range(_MAX_STARTS):
        start = line.find(b'{"', start + 1)
        if start < 0:
            break
        if own := _read_own(line[start:]):
            return line[:start], own
    return line, None


def _read_own(line: bytes) -> dict[str, Any] | None:
    """Return the fields of a line that the process's own log has written; None for any other."""
    if b'"event": ' not in line:
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("event"), str) else None
