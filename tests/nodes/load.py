"""Many runs at once on a cluster, and what must be true of them however many nodes were killed meanwhile."""

from __future__ import annotations

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import httpx

from tests.processes.conversation import RUNS, Json
from tests.support.cluster import Cluster, wait_until

_CLIENTS: Final = 8


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as the journal has it."""

    tool: str
    name: str
    status: str
    in_doubt: bool


def begin(client: httpx.Client, script: str) -> Json:
    """Create a run and do not wait for it."""
    response = client.post(RUNS, data={"message": script, "background": "true", "stream": "false"})
    assert response.status_code == 202, response.text
    return {"agent_id": "scripted", **response.json()}


def begin_many(cluster: Cluster, scripts: list[str]) -> list[Json]:
    """Create a run for each script, over all API nodes."""
    clients = [api.client() for api in cluster.apis]
    try:
        with ThreadPoolExecutor(_CLIENTS) as threads:
            return list(threads.map(lambda item: begin(clients[item[0] % len(clients)], item[1]), enumerate(scripts)))
    finally:
        for client in clients:
            client.close()


def script_of(number: int, calls: int) -> str:
    """Return the script of a run with so many calls: in every second run they may be run again."""
    tool = "work" if number % 2 else "rework"
    return ", ".join(f"{tool} {number}-{call}" for call in range(calls))


def wait_until_settled(cluster: Cluster, seconds: float) -> None:
    """Wait until nobody executes anything, and nothing waits to be executed."""
    wait_until(lambda: is_settled(cluster), "all runs are settled", seconds)


def is_settled(cluster: Cluster) -> bool:
    """Whether nobody executes anything, and nothing waits to be executed."""
    return not cluster.statuses().keys() & {"PENDING", "RUNNING"}


def check_runs(cluster: Cluster) -> Counter[str]:
    """Assert what holds of every settled run of ``script_of``; return how many have which status.

    Each is COMPLETED with all its calls, or PAUSED with just the call in doubt that was cut; none ran again that had
    finished; and no number is missing in a log.
    """
    assert cluster.find_gaps() == []
    began: defaultdict[str, list[int]] = defaultdict(list)
    ended: set[str] = set()
    for line in cluster.noted():
        run, _, call = line.name.partition("-")
        if line.what == "began":
            began[run].append(int(call))
        else:
            ended.add(line.name)
    journal = _read_journal(cluster)
    statuses: Counter[str] = Counter()
    for run_key, status, prompt in cluster.rows("SELECT id, status, prompt FROM runs"):
        statuses[status] += 1
        names = [step.split(" ")[1] for step in prompt.split(", ")]
        calls = journal[run_key]
        assert [call.name for call in calls] == names[: len(calls)]
        finished = [call.name for call in calls if call.status == "finished"]
        assert ended.issuperset(finished), "a call counts as finished that has not ended"
        numbers = began[names[0].partition("-")[0]]
        # A call begins once the one before is on record as finished: none that is may begin again.
        assert numbers == sorted(numbers), numbers
        if prompt.startswith("work"):
            assert len(numbers) == len(set(numbers)), "a call ran twice that may not"
        if status == "COMPLETED":
            assert finished == names
        else:
            assert status == "PAUSED", (run_key, status)
            assert prompt.startswith("work")
            assert finished == names[: len(calls) - 1]
            assert (calls[-1].status, calls[-1].in_doubt) == ("started", True)
    return statuses


def _read_journal(cluster: Cluster) -> dict[int, list[Call]]:
    journal: defaultdict[int, list[Call]] = defaultdict(list)
    for run_key, tool, arguments, status, in_doubt in cluster.rows(
        "SELECT c.run_key, c.tool_name, c.tool_args->>'name', c.status, r.in_doubt FROM tool_calls c LEFT JOIN"
        " requirements r ON r.run_key = c.run_key AND r.call_id = c.tool_call_id AND r.decision IS NULL"
        " ORDER BY c.run_key, c.turn"
    ):
        journal[run_key].append(Call(tool, arguments, status, bool(in_doubt)))
    return journal
