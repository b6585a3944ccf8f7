"""Measures pause-and-resume cycles per second through HTTP, beside bare FastAPI apps, and prints a Markdown table.

Start it from the top folder: ``python -m tests.benchmarks.cycles``. All servers are up at once and take turns in short
slices, so that a slow moment of the machine falls on all of them; a ratio is that of two slices of one round.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import uvloop

from tests.benchmarks.load import Cycle, Tally, agent_cycle, bare_cycle, load
from tests.benchmarks.servers import Server, Variant, serving_process
from tests.benchmarks.transactions import count_transactions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.benchmarks.bare import Work

_STREAMING_CLIENTS = 16

Counts = dict[str, tuple["Work", "Work"]]


class Results:
    """All slices, by what was measured and with how many clients, in the order of the rounds."""

    def __init__(self) -> None:
        self._slices: defaultdict[tuple[str, int], list[Tally]] = defaultdict(list)

    def add(self, name: str, clients: int, tally: Tally) -> None:
        """Keep one slice."""
        self._slices[name, clients].append(tally)

    def figures(self, name: str, clients: int) -> list[float]:
        """Return the cycles per second, round by round."""
        return [tally.cycles_per_second for tally in self._slices[name, clients]]

    def processor_milliseconds(self, name: str, clients: int) -> float:
        """Return what a cycle cost the server in processor time, the median of the rounds."""
        return median(tally.processor_milliseconds for tally in self._slices[name, clients])

    def ratio(self, name: str, beside: str, clients: int) -> float:
        """Return the median of the rounds' ratios."""
        pairs = zip(self.figures(name, clients), self.figures(beside, clients), strict=True)
        return median(own / other for own, other in pairs if other)

    def refused(self, name: str) -> int:
        """Return how many requests were answered otherwise than they should."""
        return sum(tally.refused for key, tallies in self._slices.items() if key[0] == name for tally in tallies)

    def continue_milliseconds(self, name: str, clients: int) -> list[float]:
        """Return what each continue took."""
        return [1000 * taken for tally in self._slices[name, clients] for taken in tally.continues]


_STREAMED = "unpause, scripted driver, continue streamed"


async def _measure(servers: Sequence[Server], clients: Sequence[int], rounds: int, seconds: float) -> Results:
    results = Results()
    for number in range(rounds):
        sys.stderr.write(f"round {number + 1} of {rounds}\n")
        for count in clients:
            # Turned round every time, so that nobody always comes after the same neighbour.
            for server in servers if number % 2 else reversed(servers):
                agent_id = server.variant.agent_id
                cycle = agent_cycle(agent_id) if agent_id else bare_cycle
                results.add(server.variant, count, await _slice(server, cycle, count, seconds))
        scripted = next(server for server in servers if server.variant is Variant.SCRIPTED)
        streamed = await _slice(scripted, agent_cycle("scripted", stream=True), _STREAMING_CLIENTS, seconds)
        results.add(_STREAMED, _STREAMING_CLIENTS, streamed)
    return results


async def _slice(server: Server, cycle: Cycle, clients: int, seconds: float) -> Tally:
    before = server.processor_seconds()
    tally = await load(server.port, cycle, clients, seconds)
    tally.processor_seconds = server.processor_seconds() - before
    return tally


def _report(results: Results, counts: Counts, clients: Sequence[int]) -> Iterable[str]:
    yield "Transactions of one cycle, writing + reading:"
    for agent_id, (creating, continuing) in counts.items():
        yield (
            f"- {agent_id}: create {creating.writes} + {creating.reads}, "
            f"continue {continuing.writes} + {continuing.reads}, "
            f"together {creating.writes + continuing.writes} + {creating.reads + continuing.reads}"
        )
    yield "- the bare apps: as the scripted agent, one statement in each"
    yield ""
    heads = [f"{count} client{'s' if count > 1 else ''}" for count in clients]
    yield f"| cycles per second, median (worst to best round) | {' | '.join(heads)} | refused |"
    yield f"| --- |{' --- |' * (len(clients) + 1)}"
    for variant in Variant:
        cells = [_spread(results.figures(variant, count)) for count in clients]
        yield f"| {variant} | {' | '.join(cells)} | {results.refused(variant)} |"
    yield ""
    yield f"| ratio of one round's figures, median | {' | '.join(heads)} |"
    yield f"| --- |{' --- |' * len(clients)}"
    for beside in (Variant.BARE, Variant.BARE_WRITES, Variant.PLAIN):
        for own in (Variant.SCRIPTED, Variant.PYDANTIC_AI):
            cells = [f"{results.ratio(own, beside, count):.2f}" for count in clients]
            yield f"| {own} / {beside} | {' | '.join(cells)} |"
    yield ""
    yield f"| processor time of the server for a cycle, ms | {' | '.join(heads)} |"
    yield f"| --- |{' --- |' * len(clients)}"
    for variant in Variant:
        cells = [f"{results.processor_milliseconds(variant, count):.1f}" for count in clients]
        yield f"| {variant} | {' | '.join(cells)} |"
    yield ""
    yield "| continue, milliseconds | p50 | p95 | p99 |"
    yield "| --- | --- | --- | --- |"
    for variant in Variant:
        yield _latencies(f"{variant}, {heads[0]}", results.continue_milliseconds(variant, clients[0]))
    streamed = results.continue_milliseconds(_STREAMED, _STREAMING_CLIENTS)
    yield _latencies(f"{_STREAMED}, {_STREAMING_CLIENTS} clients", streamed)
    yield ""
    figures = _spread(results.figures(_STREAMED, _STREAMING_CLIENTS))
    yield f"{_STREAMED}, {_STREAMING_CLIENTS} clients: {figures} cycles per second"


def _spread(figures: Sequence[float]) -> str:
    return f"{median(figures):.0f} ({min(figures):.0f} to {max(figures):.0f})"


def _latencies(name: str, milliseconds: Sequence[float]) -> str:
    cuts = quantiles(milliseconds, n=100)
    return f"| {name} | {cuts[49]:.2f} | {cuts[94]:.2f} | {cuts[98]:.2f} |"


def _memory(servers: Sequence[Server]) -> dict[Variant, float]:
    return {server.variant: server.resident_megabytes() for server in servers if server.variant.agent_id}


def _run(folder: Path, clients: Sequence[int], rounds: int, seconds: float) -> Iterable[str]:
    (folder / "counting").mkdir()
    counts = asyncio.run(count_transactions(folder / "counting"))
    creating, continuing = counts["scripted"]
    with ExitStack() as stack:
        servers = []
        for variant in Variant:
            work = (creating, continuing)
            if variant is Variant.BARE_WRITES:
                work = (creating.without_reads(), continuing.without_reads())
            servers.append(stack.enter_context(serving_process(variant, folder / variant.name, *work)))
        at_start = _memory(servers)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(_measure(servers, clients, rounds, seconds))
        after_load = _memory(servers)
    yield f"Python {platform.python_version()}, {rounds} rounds of {seconds:g} s slices"
    yield ""
    yield from _report(results, counts, clients)
    yield ""
    yield "| resident memory, MB (10^6 bytes) | after start | after the load |"
    yield "| --- | --- | --- |"
    for variant, megabytes in at_start.items():
        yield f"| {variant} | {megabytes:.0f} | {after_load[variant]:.0f} |"


def main() -> None:
    """Measure, and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of a slice (default 1.5)")
    parser.add_argument("--rounds", type=int, default=5, help="slices of each kind (default 5)")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64], help="how many at once (1 16 64)")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="unpause-benchmark-") as folder:
        for line in _run(Path(folder), options.clients, options.rounds, options.seconds):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
