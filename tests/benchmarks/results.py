"""What was measured, slice by slice, and the tables that it makes."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any, NamedTuple

from tests.benchmarks.load import Tally
from tests.benchmarks.subjects import Server


class Row(NamedTuple):
    """What is measured once a round."""

    database: str
    transport: str
    clients: int
    subject: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What one slice measured; all times are milliseconds, those of a processor are of one cycle."""

    cycles_per_second: float
    server_processor: float
    database_processor: float
    generator_processor: float
    continues: list[float]
    first_events: list[float]
    wrong: int


@dataclass(frozen=True, slots=True)
class Process:
    """What a server took; megabytes are of the process and of its children, after start and after the load."""

    database: str
    subject: str
    until_healthy: float
    until_ready: float
    after_start: tuple[float, float]
    after_load: tuple[float, float]


class Results:
    """All slices, in the order of the rounds, and the processes."""

    def __init__(self) -> None:
        self.slices: defaultdict[Row, list[Figures]] = defaultdict(list)
        self.processes: list[Process] = []
        self.complaint = ""

    @property
    def wrong(self) -> int:
        """How many requests were not answered as they should."""
        return sum(figures.wrong for rounds in self.slices.values() for figures in rounds)

    def add(self, row: Row, tally: Tally, server_seconds: float, database_seconds: float) -> None:
        """Keep a slice."""
        figures = Figures(
            cycles_per_second=tally.cycles_per_second,
            server_processor=1000 * server_seconds / tally.cycles,
            database_processor=1000 * database_seconds / tally.cycles,
            generator_processor=1000 * tally.processor_seconds / tally.cycles,
            continues=tally.continues,
            first_events=tally.first_events,
            wrong=tally.wrong,
        )
        self.slices[row].append(figures)
        self.complaint = self.complaint or tally.complaint

    def add_process(self, database: str, server: Server, memory: Sequence[tuple[float, float]]) -> None:
        """Keep what a process took."""
        seconds = (server.until_healthy, server.until_ready)
        self.processes.append(Process(database, server.subject.key, *seconds, memory[0], memory[1]))

    def rows(self, database: str, transport: str) -> list[Row]:
        """Return what was measured there, by number of clients and then in the order of the processes."""
        order = [process.subject for process in self.processes]
        found = [row for row in self.slices if row[:2] == (database, transport)]
        return sorted(found, key=lambda row: (row.clients, order.index(row.subject)))

    def ratio(self, row: Row, reference: str) -> float | None:
        """Return the median of the rounds' ratios of cycles per second; None where there is none."""
        pairs = zip(self.slices[row], self.slices.get(row._replace(subject=reference), ()), strict=False)
        ratios = [own.cycles_per_second / other.cycles_per_second for own, other in pairs if other.cycles_per_second]
        return median(ratios) if ratios else None

    def as_json(self) -> dict[str, Any]:
        """Return everything that was measured."""
        return {
            "machine": machine(),
            "slices": [
                {**row._asdict(), "round": number, **asdict(figures)}
                for row, rounds in self.slices.items()
                for number, figures in enumerate(rounds)
            ],
            "processes": [asdict(process) for process in self.processes],
        }


def machine() -> str:
    """Return what it was measured on."""
    return f"Python {platform.python_version()}, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}"


def report(results: Results, references: Sequence[str]) -> Iterator[str]:
    """Yield the lines of the tables, in Markdown; ``references`` are the subjects that ratios are to."""
    yield machine()
    heads = ["clients", "server", "cycles/s", *(f"/ {key}" for key in references)]
    heads += ["CPU", "CPU of PostgreSQL", "continue p50", "p99", "first event p50", "wrong"]
    for database, transport in dict.fromkeys(row[:2] for row in results.slices):
        yield from ("", f"{database}, {transport}; milliseconds, of CPU for a cycle:", "")
        yield from _table(heads, (_cells(results, row, references) for row in results.rows(database, transport)))
    yield ""
    heads = ["database", "server", "s to /health", "s to /ready", "MB after start + children", "MB after the load"]
    yield from _table(heads, (_process_cells(process) for process in results.processes))
    cost = median(figures.generator_processor for rounds in results.slices.values() for figures in rounds)
    yield from ("", f"The load generator took {cost:.2f} ms of CPU for a cycle.")


def _table(heads: Sequence[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{' --- |' * len(heads)}"
    for cells in rows:
        yield f"| {' | '.join(cells)} |"


def _cells(results: Results, row: Row, references: Sequence[str]) -> Iterator[str]:
    rounds = results.slices[row]

    def middle(of: Callable[[Figures], float]) -> float:
        return median(map(of, rounds))

    rates = [figures.cycles_per_second for figures in rounds]
    yield from (f"{row.clients}", row.subject, f"{median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})")
    for reference in references:
        ratio = results.ratio(row, reference)
        yield "" if ratio is None else f"{ratio:.2f}"
    yield f"{middle(lambda figures: figures.server_processor):.1f}"
    yield f"{middle(lambda figures: figures.database_processor):.1f}" if row.database != "sqlite" else ""
    continues = [taken for figures in rounds for taken in figures.continues]
    cuts = quantiles(continues, n=100) if len(continues) > 1 else None
    yield from (f"{cuts[49]:.1f}", f"{cuts[98]:.1f}") if cuts else ("", "")
    first_events = [taken for figures in rounds for taken in figures.first_events]
    yield f"{median(first_events):.1f}" if row.transport == "sse" and first_events else ""
    yield f"{sum(figures.wrong for figures in rounds)}"


def _process_cells(process: Process) -> Iterator[str]:
    yield from (process.database, process.subject, f"{process.until_healthy:.1f}", f"{process.until_ready:.1f}")
    for own, children in (process.after_start, process.after_load):
        yield f"{own:.0f} + {children:.0f}"
