"""Kills agent processes under load, and measures after how long what they cut goes on."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.nodes.load import is_settled
from tests.support.agent_processes import agent_processes_of
from tests.support.cluster import Cluster, wait_until
from tests.support.full import IS_FULL
from tests.support.processes import ServerProcess

# A few calls start again after a quarter of a second; in the long storms many start again at once.
RECOVERY_SECONDS: Final = 5.0 if IS_FULL else 2.0


@dataclass(slots=True)
class Kills:
    """Which agent processes were killed, and when."""

    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311 - nothing secret
    at: dict[int, float] = field(default_factory=dict)

    def kill_one(self, workers: Sequence[ServerProcess]) -> None:
        """Kill an agent process of one of the workers, whatever it does."""
        children = sorted(agent_processes_of(self.chance.choice(workers).pid))
        if children:
            victim = self.chance.choice(children)
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self.at[victim] = time.time()

    def kill_one_that_works(self, cluster: Cluster) -> None:
        """Wait until those that were killed are replaced; then kill one in which a call runs, if any does."""
        deaths = len(self.at)
        wait_until(lambda: cluster.output().count("agent process started") >= deaths, "the killed are replaced")
        wait_until(lambda: _working(cluster) or is_settled(cluster), "a call runs in an agent process")
        for victim in sorted(_working(cluster))[:1]:
            # It may have ended since.
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                self.at[victim] = time.time()

    def recoveries(self, cluster: Cluster) -> list[float]:
        """Return the seconds between a kill and the new start of each call that it cut and that may run again."""
        began: dict[str, int] = {}
        found = []
        for line in cluster.noted():
            if line.what == "began":
                killed_at = self.at.get(began.get(line.name, 0))
                if killed_at is not None:
                    found.append(line.at - killed_at)
                began[line.name] = line.process
        return found

    def report(self, cluster: Cluster, what: object) -> float:
        """Print what the kills did; return the median of the recoveries."""
        recoveries = self.recoveries(cluster)
        assert recoveries, "no kill cut a call: nothing was tested"
        median = statistics.median(recoveries)
        print(  # noqa: T201 - a measurement
            f"{len(self.at)} kills cut {len(recoveries)} calls that may run again; {what};"
            f" started again after {median:.2f} s (p50), {max(recoveries):.2f} s (longest)"
        )
        return median


def longest_recovery() -> float:
    """Return what the median may be on this machine as it is now: as much longer as it has more to do."""
    return RECOVERY_SECONDS * max(1.0, os.getloadavg()[0] / (2 * (os.cpu_count() or 1)))


def _working(cluster: Cluster) -> set[int]:
    """Return the agent processes in which a call that may run again runs now."""
    running: dict[str, int] = {}
    for line in cluster.noted():
        if line.what == "ended":
            running.pop(line.name, None)
        elif line.tool == "rework":
            running[line.name] = line.process
    alive = {pid for worker in cluster.workers for pid in agent_processes_of(worker.pid)}
    return alive & set(running.values())
