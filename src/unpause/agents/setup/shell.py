"""Runs one shell command in a folder: with a time limit, a clean environment and only the end of its output kept."""

from __future__ import annotations

import asyncio
import os
import pwd
import signal
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from unpause.errors import InvalidSetting
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHELL: Final = "/bin/sh"

# The command's standard input would be a pipe whose other end only this process holds; a watcher gets it
# instead, and the command reads nothing. When this process dies, even by SIGKILL, the watcher sees the pipe's end and
# kills the command's whole group: nothing keeps running while a human decides about it after the restart. The watcher
# is started twice removed, so that no command waits for a child it does not know.
_WATCHED: Final = """\
exec 3<&0 </dev/null
( { read -r _ <&3; kill -9 0; } >/dev/null 2>&1 & )
exec 3<&-
exec /bin/sh -c "$1"
"""

# Started before the shell: a process of its own, which drops the privileges that the command must not have. Neither
# the command nor what it starts gains rights by set-user-id programs, it leaves no core behind, and runs as the user of
# the settings, if they name one. The server's own process cannot do that, because it has other threads.
# Python ignores two signals, which a command would inherit: `yes | head` would then print an error.
_LAUNCH: Final = """\
import os, resource, signal, sys
user, group, *command = sys.argv[1:]
if sys.platform == "linux":
    import ctypes
    if ctypes.CDLL(None).prctl(38, 1, 0, 0, 0):
        sys.exit("no_new_privs could not be set")
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(ignored, signal.SIG_DFL)
if user:
    os.setgroups([])
    os.setgid(int(group))
    os.setuid(int(user))
os.execv(command[0], command)
"""

_CHUNK_BYTES: Final = 65_536

# How long to read on once a command and its group are gone: only what left the group may still hold the pipe open.
_REST_SECONDS: Final = 1.0

_COULD_NOT_START: Final = 126


class CommandUser(NamedTuple):
    """The user that commands run as, and the group, by their numbers."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class CommandRules:
    """What holds for a command: its time in seconds, how many bytes of its output are kept, all of its environment.

    ``user`` None is the server's own.
    """

    timeout_seconds: float
    output_bytes: int
    environment: Mapping[str, str]
    user: CommandUser | None = None


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended. ``exit_code`` is None for one that was stopped at its time limit.

    ``output`` is the end of what it wrote to both its outputs; ``cut`` is whether something came before it.
    """

    exit_code: int | None
    seconds: float
    output: str
    cut: bool = False


def clean_environment(search_path: str, home: Path) -> dict[str, str]:
    """Return the environment of commands: nothing of the server's own but where programs are found."""
    return {"PATH": search_path, "HOME": str(home), "LANG": "C.UTF-8"}


def find_programs(environment: Mapping[str, str]) -> str:
    """Return the PATH for commands: this process's, without the virtual environment that it runs in.

    Else a command such as ``pip install`` would change the server.
    """
    path = environment.get("PATH", os.defpath)
    if sys.prefix == sys.base_prefix:
        return path
    own = Path(sys.prefix).resolve()
    kept = [folder for folder in path.split(os.pathsep) if folder and not Path(folder).resolve().is_relative_to(own)]
    return os.pathsep.join(kept) or os.defpath


async def run_command(command: str, folder: Path, rules: CommandRules) -> CommandEnd:
    """Run the command with ``/bin/sh -c`` and return how it ended; it reads nothing.

    It has no files of this process open, none of its environment, and no way to more rights than it begins with.

    It has a process group of its own, which is killed as a whole when the command has ended, at the time limit, when
    this task is cancelled and when this process dies: what a command leaves in the background ends with it. Only a
    process that makes a session of its own escapes. A command that cannot be started ends with exit code 126.
    """
    loop = asyncio.get_running_loop()
    started = loop.time()
    tail = _Tail(rules.output_bytes)
    try:
        exit_code = await _watch(command, folder, rules, tail)
    except OSError as error:
        tail.add(f"The command could not be started: {error.strerror}".encode())
        exit_code = _COULD_NOT_START
    return CommandEnd(exit_code, loop.time() - started, tail.text(), cut=tail.cut)


async def _watch(command: str, folder: Path, rules: CommandRules, tail: _Tail) -> int | None:
    with ExitStack() as ends:
        watched, alive = os.pipe()
        # Closed last, in any case: the watcher waits for it.
        ends.callback(os.close, alive)
        readable, writable = os.pipe()
        reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
        try:
            output = os.fdopen(readable, "rb", buffering=0)
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), output
            )
            ends.callback(transport.close)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _LAUNCH),
                *(("", "") if rules.user is None else map(str, rules.user)),
                *(_SHELL, "-c", _WATCHED, "sh", command),
                cwd=folder,
                env=dict(rules.environment),
                stdin=watched,
                stdout=writable,
                stderr=writable,
                start_new_session=True,
            )
        finally:
            os.close(watched)
            os.close(writable)
        async with TaskScope() as tasks:
            reading = tasks.start(_read(reader, tail), f"output of command {process.pid}")
            try:
                exit_code = await _wait(process, rules.timeout_seconds)
            finally:
                _kill_group(process.pid)
                await process.wait()
            await asyncio.wait({reading}, timeout=_REST_SECONDS)
        return exit_code


async def _wait(process: asyncio.subprocess.Process, seconds: float) -> int | None:
    """Return the exit code, or None once the time is over."""
    try:
        async with asyncio.timeout(seconds):
            return await process.wait()
    except TimeoutError:
        return None


def _kill_group(leader: int) -> None:
    # The group outlives its leader, because the watcher is in it. So the number cannot have been reused yet.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


async def _read(reader: asyncio.StreamReader, tail: _Tail) -> None:
    while chunk := await reader.read(_CHUNK_BYTES):
        tail.add(chunk)


class _Tail:
    """The last bytes of what was added, never holding much more than twice as many."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._added = 0

    @property
    def cut(self) -> bool:
        """Whether something came before what is kept."""
        return self._added > self._limit

    def add(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        self._kept += chunk
        self._added += len(chunk)
        if len(self._kept) > 2 * self._limit:
            del self._kept[: -self._limit]

    def text(self) -> str:
        """Return what is kept; what is no UTF-8, or no character of a database's text, is marked as such."""
        return self._kept[-self._limit :].decode("utf-8", errors="replace").replace("\x00", "\ufffd")


def find_command_user(name: str | None) -> CommandUser | None:
    """Return the user that commands run as; None for the server's own. Raises InvalidSetting."""
    if name is None:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise InvalidSetting(f"command_user: there is no user {name!r} on this machine") from None
    if found.pw_uid == 0:
        raise InvalidSetting("command_user must not be root, who can read everything")
    if os.geteuid() != 0:
        raise InvalidSetting("command_user: only a server that runs as root can run commands as another user")
    return CommandUser(found.pw_uid, found.pw_gid)
