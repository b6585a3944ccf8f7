"""Measures servers against one another: cycles of a run that pauses and is continued, on both databases.

``python -m tests.benchmarks.duel``; ``--help`` names the options, and docs/explanation/performance.md says what the
columns mean. All servers are up at once and take turns in short slices, so that a slow moment of the machine falls on
all of them: a ratio is that of two slices of one round. The load comes from a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.benchmarks import load
from tests.benchmarks.picture import draw
from tests.benchmarks.results import Results, Row, report
from tests.benchmarks.subjects import (
    DEFAULT_BASE,
    DEFAULT_CACHE,
    Server,
    Subject,
    find_subject,
    processor_seconds,
    serving_process,
)
from tests.support.client_environments import ROOT
from tests.support.databases import PostgresServer, postgres_server, sqlite_url

_UNPAUSE: Final = ("unpause-0", "unpause-1", "unpause-2", "unpause-scripted")
_BASE: Final = ("base-0", "base-1", "base-2", "base-scripted")
_OTHERS: Final = ("agno-3.1.10", "agno-2.5.6", "limit-0", "limit-1", "limit-2")
_SUBJECTS: Final = (*_UNPAUSE, *_BASE, *_OTHERS)
_REFERENCES: Final = ("base-0", "agno-3.1.10", "limit-0")
_WARM_UP: Final = (2, 0.5)


class LoadGenerator:
    """A process that makes load when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextmanager
    def started(cls) -> Iterator[LoadGenerator]:
        """Have the process for the length of the block."""
        command = [sys.executable, "-m", load.__name__]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
            yield cls(process)
            if process.stdin is not None:
                process.stdin.close()

    def measure(self, server: Server, clients: int, seconds: float, *, stream: bool) -> load.Tally:
        """Let the clients cycle; return what was counted."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the load generator has no pipes")
        order = {"port": server.port, "agent_id": server.subject.agent_id, "clients": clients, "seconds": seconds}
        self._process.stdin.write(json.dumps({**order, "stream": stream}) + "\n")
        self._process.stdin.flush()
        return load.Tally(**json.loads(self._process.stdout.readline()))


@dataclass(slots=True)
class Duel:
    """The measuring of all subjects, with the options of the command."""

    options: argparse.Namespace
    subjects: Sequence[Subject]
    generator: LoadGenerator
    folder: Path
    results: Results = field(default_factory=Results)

    def measure(self, database: str) -> None:
        """Have all servers up on this kind of database, and let them take turns."""
        with ExitStack() as stack:
            postgres = stack.enter_context(postgres_server(is_safe=True)) if database == "postgresql" else None
            servers = [self._started(subject, stack, postgres) for subject in self.subjects]
            before = [server.resident_megabytes() for server in servers]
            for server, transport in itertools.product(servers, self.options.transports):
                # What a process makes once, such as compiled statements, is no part of a slice.
                self.generator.measure(server, *_WARM_UP, stream=transport == "sse")
            for number in range(self.options.rounds):
                sys.stderr.write(f"{database}, round {number + 1} of {self.options.rounds}\n")
                for transport, clients in itertools.product(self.options.transports, self.options.clients):
                    # Turned round every time, so that nobody always comes after the same neighbour.
                    for server in servers if number % 2 else reversed(servers):
                        self._measure(Row(database, transport, clients, server.subject.key), server, postgres)
            for server, memory in zip(servers, before, strict=True):
                self.results.add_process(database, server, (memory, server.resident_megabytes()))

    def _started(self, subject: Subject, stack: ExitStack, postgres: PostgresServer | None) -> Server:
        folder = self.folder / f"{'sqlite' if postgres is None else 'postgresql'}-{subject.key}"
        url = sqlite_url(folder / "data.db") if postgres is None else stack.enter_context(postgres.database())
        return stack.enter_context(serving_process(subject, folder, url))

    def _measure(self, row: Row, server: Server, postgres: PostgresServer | None) -> None:
        processes = (server.process_id, *([postgres.process_id] if postgres else []))
        before = [processor_seconds(process) for process in processes]
        stream = row.transport == "sse"
        tally = self.generator.measure(server, row.clients, self.options.seconds, stream=stream)
        used = [processor_seconds(process) - begin for process, begin in zip(processes, before, strict=True)]
        self.results.add(row, tally, used[0], used[1] if postgres else 0.0)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--subjects", nargs="+", choices=_SUBJECTS, default=_SUBJECTS, metavar="KEY", help=", ".join(_SUBJECTS))
    add("--references", nargs="+", default=_REFERENCES, metavar="KEY", help="what the ratios are to")
    add("--base", default=DEFAULT_BASE, metavar="REVISION", help=f"the older commit (default {DEFAULT_BASE})")
    add("--databases", nargs="+", choices=("sqlite", "postgresql"), default=("sqlite", "postgresql"))
    add("--transports", nargs="+", choices=("json", "sse"), default=("json", "sse"))
    add("--clients", type=int, nargs="+", default=(1, 16, 64), help="how many at once (default 1 16 64)")
    add("--seconds", type=float, default=2.0, help="length of a slice (default 2)")
    add("--rounds", type=int, default=5, help="slices of each kind (default 5)")
    add("--cache", type=Path, default=DEFAULT_CACHE, help=f"folder for the older commit (default {DEFAULT_CACHE})")
    add("--output", type=Path, help="folder for duel.json and duel.png")
    add("--quick", action="store_true", help="this server and the limit on SQLite, one slice of each kind")
    options = parser.parse_args(arguments)
    if options.quick:
        options.subjects, options.databases, options.clients = ("unpause-0", "limit-0"), ("sqlite",), (4,)
        options.seconds, options.rounds = 1.0, 1
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write the files."""
    options = parse(arguments)
    subjects = [find_subject(key, options.base, options.cache) for key in options.subjects]
    with TemporaryDirectory(prefix="unpause-duel-") as folder, LoadGenerator.started() as generator:
        duel = Duel(options, subjects, generator, Path(folder))
        for database in options.databases:
            duel.measure(database)
    for line in report(duel.results, [key for key in options.references if key in options.subjects]):
        sys.stdout.write(f"{line}\n")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "duel.json").write_text(json.dumps(duel.results.as_json()), encoding="utf-8")
        (options.output / "duel.png").write_bytes(draw(duel.results))
    if duel.results.wrong:
        sys.exit(f"{duel.results.wrong} wrong answers, the first of them: {duel.results.complaint}")


if __name__ == "__main__":
    main()
