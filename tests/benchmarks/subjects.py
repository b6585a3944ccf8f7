"""The servers that are measured, by key, and a process of each.

``unpause-0``, ``-1``, ``-2``: this code with as many agent processes; ``unpause-scripted``: with the scripted driver,
without Pydantic AI. ``base-…``: the same of an older commit. ``agno-VERSION``: AgentOS. ``limit-0``, ``-1``, ``-2``:
what ``limit_server`` describes, with as many children.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from socket import create_server
from typing import Final

from tests.benchmarks import instant_agent, limit_server
from tests.support.client_environments import ROOT, agno_server_environment
from tests.support.processes import clean_environment

DEFAULT_BASE: Final = "1b059a4"
DEFAULT_CACHE: Final = Path("~/.cache/unpause-benchmarks").expanduser()

# Neither can be imported: one needs Agno, and the other an older commit.
_HERE: Final = Path(__file__).parent
_DEADLINE: Final = 60.0
_BETWEEN_ATTEMPTS: Final = 0.02
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Subject:
    """How to start a server; PORT and DATABASE_URL in the arguments stand for those that it gets."""

    key: str
    command: tuple[str, ...]
    agent_id: str = "instant"
    migration: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    readiness: str = "/health"


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that is up, and the seconds until its two checks answered 200."""

    subject: Subject
    process_id: int
    port: int
    until_healthy: float
    until_ready: float

    def processor_seconds(self) -> float:
        """Return the processor time of the process and its children so far, in user and system mode together."""
        return processor_seconds(self.process_id)

    def resident_megabytes(self) -> tuple[float, float]:
        """Return the resident memory of the process, and of all its children, in units of 10^6 bytes."""
        own, *children = (_resident_bytes(each) / 1e6 for each in _family(self.process_id))
        return own, sum(children)


def find_subject(key: str, base: str = DEFAULT_BASE, cache: Path = DEFAULT_CACHE) -> Subject:
    """Return the subject of this key; an older commit and foreign environments are made ready first."""
    name, _, variant = key.partition("-")
    if name == "limit":
        command = (sys.executable, "-m", limit_server.__name__, "PORT", "DATABASE_URL", variant)
        return Subject(key, command)
    if name == "agno":
        python = str(agno_server_environment(variant))
        return Subject(key, (python, str(_HERE / "agno_server.py"), "PORT", "DATABASE_URL"))
    if name not in {"unpause", "base"}:
        raise ValueError(f"no such subject: {key}")
    folder = ROOT if name == "unpause" else _exported(base, cache)
    environment = {"PYTHONPATH": f"{folder / 'src'}:{folder}"}
    is_scripted = variant == "scripted"
    program = (sys.executable, str(_HERE / "scripted_server.py")) if is_scripted else (sys.executable, "-m", "unpause")
    options = ("--agents", str(instant_agent.__file__), "--agent-processes", "0" if is_scripted else variant)
    return Subject(
        key,
        (*program, "serve", "--dev", *options, "--port", "PORT", "--database-url", "DATABASE_URL"),
        agent_id="scripted" if is_scripted else "instant",
        migration=(sys.executable, "-m", "unpause", "db", "upgrade", "--database-url", "DATABASE_URL"),
        environment=environment,
        readiness="/ready",
    )


def _exported(revision: str, cache: Path) -> Path:
    """Return a folder with the files of a commit."""
    git = ("git", "-C", str(ROOT))
    commit = subprocess.run([*git, "rev-parse", revision], check=True, capture_output=True, text=True).stdout.strip()
    folder = cache / f"unpause-{commit[:12]}"
    if not (folder / "src").exists():
        folder.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run([*git, "archive", commit], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(folder, filter="data")
    return folder


@contextmanager
def serving_process(subject: Subject, folder: Path, database_url: str) -> Iterator[Server]:
    """Run the server for the length of the block; its log goes to a file in ``folder``."""
    folder.mkdir(parents=True)
    port = _free_port()
    values = {"PORT": str(port), "DATABASE_URL": database_url}
    environment = clean_environment(**subject.environment)
    with (folder / "log").open("wb") as log:
        if subject.migration:
            migration = [values.get(part, part) for part in subject.migration]
            subprocess.run(migration, cwd=ROOT, env=environment, stdout=log, stderr=log, check=True)
        command = [values.get(part, part) for part in subject.command]
        begin = time.perf_counter()
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log) as process:
            try:
                healthy = _wait_for(port, "/health", process) - begin
                ready = _wait_for(port, subject.readiness, process) - begin
                yield Server(subject, process.pid, port, healthy, ready)
            except ServerDied as error:
                raise RuntimeError(f"{subject.key}: {error}\n{(folder / 'log').read_text()[-3000:]}") from None
            finally:
                _stop(process)


class ServerDied(Exception):
    """A server ended, or never answered."""


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as socket:
        port: int = socket.getsockname()[1]
        return port


def _wait_for(port: int, path: str, process: subprocess.Popen[bytes]) -> float:
    deadline = time.perf_counter() + _DEADLINE
    while process.poll() is None and time.perf_counter() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=_DEADLINE)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return time.perf_counter()
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(_BETWEEN_ATTEMPTS)
    raise ServerDied("it ended" if process.poll() is not None else f"no answer from {path}")


def processor_seconds(process_id: int) -> float:
    """Return the processor time of a process and its children so far, those that have ended among them."""
    ticks = 0
    for each in _family(process_id):
        # One may end meanwhile, as PostgreSQL's do.
        with suppress(FileNotFoundError, ProcessLookupError):
            # User and system time; the last two are those of children that have ended.
            ticks += sum(int(field) for field in _stat(each)[11:15])
    return ticks / _TICKS


def _family(process_id: int) -> list[int]:
    """Return the process, its children and theirs."""
    parents = {int(folder.name): _parent(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()}
    family = [process_id]
    for parent in family:
        family.extend(child for child, its_parent in parents.items() if its_parent == parent)
    return family


def _parent(folder: Path) -> int:
    with suppress(OSError):
        return int(_stat(int(folder.name))[1])
    return 0


def _stat(process_id: int) -> list[str]:
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()


def _resident_bytes(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
