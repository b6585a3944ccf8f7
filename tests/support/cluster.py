"""Many nodes for tests: a PostgreSQL server of their own, API nodes and workers as real processes, and what they left.

The PostgreSQL server is not the one that other tests share: it can be stopped, and it writes to disk as PostgreSQL
does by itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString, Self, TypeVar, cast

import psycopg
from sqlalchemy import NullPool, create_engine, text

from tests.support.preloaded import Command
from tests.support.previous_release import PreviousRelease
from tests.support.processes import DEADLINE, Launch, ServerProcess
from unpause.store.engine.postgres import begin_statements

T = TypeVar("T")

NODES_AGENTS: Final = Path(__file__).parents[1] / "nodes" / "agents_file.py"

_LOOK_AGAIN_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Noted:
    """One line that a tool wrote: that it `began` or `ended`, under which name, where, when, in which process."""

    what: str
    tool: str
    name: str
    pid: int
    at: float
    process: int


class Locking:
    """A transaction that was left open, with a run's row locked in it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    @property
    def has_ended(self) -> bool:
        """Whether the server has cut the connection."""
        try:
            next(self._connection.notifies(timeout=0, stop_after=1), None)
        except psycopg.OperationalError:
            return True
        return False


class Cluster:
    """API nodes without workers, and workers, in one folder and on one database."""

    def __init__(self, folder: Path, database_url: str, *options: str, **environment: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.apis: list[ServerProcess] = []
        self.workers: list[ServerProcess] = []
        self._options = options
        # Limits of requests are another test's.
        limits = dict.fromkeys(("CREATE", "READ", "LOGS", "RESUME", "CHANGE", "SETUP"), "")
        self._environment = {
            "UNPAUSE_DATABASE_URL": database_url,
            **{f"UNPAUSE_RATE_LIMIT_{name}": value for name, value in limits.items()},
            **environment,
        }
        self._stack = ExitStack()

    def start(self, *, apis: int = 2, workers: int = 2, nodes: int = 0) -> None:
        """Start so many of each, all at once; a node is both."""
        added = [self.new_api() for _ in range(apis)] + [self._process("serve") for _ in range(nodes)]
        added += [self.new_worker() for _ in range(workers)]
        start_all(added)
        self.apis += added[: apis + nodes]
        self.workers += added[apis + nodes :]

    def new_api(self, *options: str) -> ServerProcess:
        """Return an API node that is not started; it is killed at the end."""
        return self._process("serve", "--no-worker", *options)

    def new_server(self, release: PreviousRelease | None = None) -> ServerProcess:
        """Return an API node that executes runs as well, of this code or another; it is not started."""
        if release is None:
            return self._process("serve")
        return self._process("serve", agents=release.agents, launch=release.launch)

    def new_worker(self, *options: str) -> ServerProcess:
        """Return a worker that is not started; it is killed at the end."""
        return self._process("worker", *options)

    def worker_of(self, pid: int) -> ServerProcess:
        """Return the worker whose process that is."""
        return next(worker for worker in self.workers if worker.pid == pid)

    def rows(self, query: LiteralString, *values: object) -> list[Any]:
        """Return what the query finds in the database."""
        with closing(psycopg.connect(self._plain_url, autocommit=True)) as connection:
            return connection.execute(query, values).fetchall()

    def change(self, statement: LiteralString, *values: object) -> None:
        """Change the database behind the nodes' backs."""
        with closing(psycopg.connect(self._plain_url, autocommit=True)) as connection:
            connection.execute(statement, values)

    @contextmanager
    def locking_run(self, run_id: str, idle_seconds: float) -> Iterator[Locking]:
        """Hold a run's row locked for the length of the block, as a process that froze within a transaction does."""
        engine = create_engine(self.database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("; ".join(begin_statements(idle_seconds)))
            connection.execute(text("SELECT id FROM runs WHERE run_id = :run_id FOR UPDATE"), {"run_id": run_id})
            try:
                yield Locking(cast("psycopg.Connection[Any]", connection.connection.driver_connection))
            finally:
                connection.invalidate()

    def noted(self, name: str | None = None) -> list[Noted]:
        """Return what the tools of all processes wrote, all of it or that under one name."""
        file = self.folder / "calls.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        found = [
            Noted(what, tool, name, int(node), float(at), int(process))
            for what, tool, name, node, at, process in map(str.split, lines)
        ]
        return [line for line in found if name in {None, line.name}]

    def find_gaps(self) -> list[Any]:
        """Return the runs whose log does not hold exactly the numbers from 1 to the last."""
        return self.rows(
            "SELECT runs.id, last_sequence, count(sequence), min(sequence), max(sequence)"
            " FROM runs LEFT JOIN events ON events.run_key = runs.id GROUP BY runs.id"
            " HAVING count(sequence) <> last_sequence OR min(sequence) <> 1 OR max(sequence) <> last_sequence"
        )

    def statuses(self) -> dict[str, int]:
        """Return how many runs have which status."""
        return dict(self.rows("SELECT status, count(*) FROM runs GROUP BY status"))

    def output(self) -> str:
        """Return what all processes wrote."""
        return "".join(process.output for process in (*self.apis, *self.workers))

    def __enter__(self) -> Self:
        self._stack.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()
        # For whoever looks into why a test failed: pytest keeps the folder.
        (self.folder / "output.log").write_text(self.output(), encoding="utf-8")

    @property
    def _plain_url(self) -> str:
        return self.database_url.replace("+psycopg", "")

    def _process(
        self, command: str, *options: str, agents: Path = NODES_AGENTS, launch: Launch = Command
    ) -> ServerProcess:
        process = ServerProcess(
            self.folder,
            *("--agents", agents),
            *options,
            *self._options,
            command=command,
            environment=self._environment,
            launch=launch,
        )
        self._stack.callback(_end, process)
        return process


def start_all(processes: list[ServerProcess]) -> None:
    """Start the processes at once: each needs seconds to load."""
    with ThreadPoolExecutor(len(processes)) as threads:
        list(threads.map(ServerProcess.start, processes))


def _end(process: ServerProcess) -> None:
    if process.is_running:
        process.send(signal.SIGKILL)
        process.wait_for_end()


def wait_until(look: Callable[[], T | None], what: str, seconds: float = DEADLINE) -> T:
    """Look again and again until there is something to see, and return it; fail after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(_LOOK_AGAIN_SECONDS)
    message = f"did not happen in {seconds:.0f} seconds: {what}"
    raise AssertionError(message)
