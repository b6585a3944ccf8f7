"""What the code of a notification service may do while it sends: connect to checked addresses, and little else.

A service of apprise opens its connections itself, to servers that users name. Python's audit hooks see each connection
with the address that is really connected to, so a name that resolves to another address a moment later changes nothing.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from math import inf
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from unpause.domain.urls import is_public

if TYPE_CHECKING:
    from collections.abc import Iterator

PRIVATE = "the address is private or of this machine"

_REFUSED = frozenset(
    {
        *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn"),
        *("pty.spawn", "_thread.start_new_thread", "ctypes.dlopen", "socket.bind", "socket.sendto", "socket.sendmsg"),
        *("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"),
    }
)
_WRITES = frozenset("wax+")
# Of all answers of one call, heads included, before decompression.
_MOST_BYTES = 2 * 1024 * 1024


class NotContained(PermissionError):
    """The code tried something that it may not do; the message has no address and no file."""


class Connections:
    """The connections of one call, which can be ended from another thread: a read that never ends does so, too."""

    def __init__(self) -> None:
        self._handles: list[socket.socket] = []
        self._is_over = False
        self._lock = threading.Lock()

    def add(self, connection: socket.socket) -> bool:
        """Note one that is about to be made; return False where the call has been given up."""
        with self._lock:
            if not self._is_over:
                # A handle of its own: TLS takes that of the socket away.
                self._handles.append(socket.socket(fileno=os.dup(connection.fileno())))
            return not self._is_over

    def end(self) -> None:
        """End those that there are, and have no further ones."""
        with self._lock:
            self._is_over = True
            handles, self._handles = self._handles, []
        for handle in handles:
            with suppress(OSError):
                handle.shutdown(socket.SHUT_RDWR)
            handle.close()


@dataclass(slots=True)
class Containment:
    """The limits of one call, and the first one that was hit. At the ``deadline`` its caller has given it up."""

    allow_private: bool
    deadline: float
    connections: Connections = field(default_factory=Connections)
    broken: str | None = None
    _left_bytes: int = _MOST_BYTES

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise NotContained for what the code may not do."""
        if event == "socket.connect":
            self._check_address(arguments[1])
            if monotonic() > self.deadline or not self.connections.add(arguments[0]):
                # The caller tries again: a message that is sent now would come twice.
                self._refuse("it took too long")
        elif event == "open":
            self._check_file(arguments[0], arguments[1])
        elif event in _REFUSED:
            self._refuse(f"the service may not use {event}")

    def count_read(self, count: int) -> None:
        """Note so many bytes of an answer; raise NotContained where that is too much."""
        self._left_bytes -= count
        if self._left_bytes < 0:
            self._refuse("the answer is too long")

    def _check_address(self, address: object) -> None:
        # A path is a socket of this machine; a name would be resolved after this check.
        host = address[0] if isinstance(address, tuple) else None
        try:
            found = ip_address(host) if isinstance(host, str) else None
        except ValueError:
            found = None
        if found is None or not (self.allow_private or is_public(found)):
            self._refuse(PRIVATE)

    def _check_file(self, path: object, mode: object) -> None:
        is_code = isinstance(path, str | bytes) and _is_of_library(path if isinstance(path, str) else path.decode())
        if not is_code or (isinstance(mode, str) and _WRITES & set(mode)):
            # Also requests' own search for passwords in ~/.netrc, which takes this for a file that cannot be read.
            raise NotContained("files are not read")

    def _refuse(self, reason: str) -> None:
        self.broken = self.broken or reason
        raise NotContained(reason)


_CONTAINMENT: ContextVar[Containment | None] = ContextVar("containment", default=None)


@contextmanager
def contained(
    *, allow_private: bool, seconds: float = inf, connections: Connections | None = None
) -> Iterator[Containment]:
    """Contain what this thread does during the block, and let it connect for so long. Load libraries before.

    Its connections end with the block, and earlier where ``connections`` are ended.
    """
    _watch()
    containment = Containment(allow_private, monotonic() + seconds, connections or Connections())
    token = _CONTAINMENT.set(containment)
    try:
        yield containment
    finally:
        _CONTAINMENT.reset(token)
        containment.connections.end()


def current_containment() -> Containment | None:
    """Return the limits of what this thread does, if it is contained."""
    return _CONTAINMENT.get()


@cache
def _watch() -> None:
    """Add the hook, once: it stays for as long as the process lives, and does nothing outside of a block."""
    # At the interpreter's exit the names of this module go before the hook does.
    current = _CONTAINMENT.get

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        containment = current()
        if containment is not None:
            containment.check(event, arguments)

    sys.addaudithook(check)


@cache
def _library_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in names})


def _is_of_library(path: str) -> bool:
    file = Path(path).resolve()
    return any(file.is_relative_to(folder) for folder in _library_folders())
