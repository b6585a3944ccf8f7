"""What the code of a notification service may do while it sends: connect to checked addresses, and little else.

A service of apprise opens its connections itself, to servers that users name. Python's audit hooks see each connection
with the address that is really connected to, so a name that resolves to another address a moment later changes nothing.
"""

from __future__ import annotations

import sys
import sysconfig
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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


class NotContained(PermissionError):
    """The code tried something that it may not do; the message has no address and no file."""


@dataclass(slots=True)
class Containment:
    """The limits of one call, and the first one that was hit. At the ``deadline`` its caller has given it up."""

    allow_private: bool
    deadline: float
    broken: str | None = None

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise NotContained for what the code may not do."""
        if event == "socket.connect":
            self._check_address(arguments[1])
        elif event == "open":
            self._check_file(arguments[0], arguments[1])
        elif event in _REFUSED:
            self._refuse(f"the service may not use {event}")

    def _check_address(self, address: object) -> None:
        if monotonic() > self.deadline:
            # The caller tries again: a message that is sent now would come twice.
            self._refuse("it took too long")
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
def contained(*, allow_private: bool, seconds: float = inf) -> Iterator[Containment]:
    """Contain what this thread does during the block, and let it connect for so long. Load libraries before."""
    _watch()
    containment = Containment(allow_private, monotonic() + seconds)
    token = _CONTAINMENT.set(containment)
    try:
        yield containment
    finally:
        _CONTAINMENT.reset(token)


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
