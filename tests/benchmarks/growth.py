"""Measures whether creating and continuing a run costs more the longer its session already is.

``python -m tests.benchmarks.growth [--rounds N]``: one server process, sessions with 1, 10, 100 and 1,000 earlier
completed runs of 2 KB, asked in turn, so that whatever else the machine does meets all of them alike. The model is
given the last 10 runs: a session with one is shorter than that, so the ratios to 10 say what growth itself costs. After
each cycle its run is taken out of the database again: every session keeps its length, and its last 10 runs.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import httpx

from tests.benchmarks.subjects import Subject, find_subject, serving_process
from tests.support.databases import sqlite_url
from tests.support.seeding import seed_sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

EARLIER = (1, 10, 100, 1000)
_HISTORY = 10
_WARM_UP = 10
_ANSWER = "x" * 2048
_FORM = {"content-type": "application/x-www-form-urlencoded"}


class Sessions:
    """One client of the server, and a second connection to its database."""

    def __init__(self, client: httpx.Client, database: sqlite3.Connection, agent_id: str) -> None:
        self._client = client
        self._database = database
        database.execute("PRAGMA foreign_keys=ON")
        self._runs = f"/agents/{agent_id}/runs"

    def cycle(self, session_id: str) -> tuple[float, float]:
        """Create a run in the session and continue it; return how long each took, in seconds. Then the run is gone."""
        asked = perf_counter()
        run = self._post(self._runs, {"message": "do it", "session_id": session_id})
        created = perf_counter()
        tools = json.dumps([{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}])
        self._post(f"{self._runs}/{run['run_id']}/continue", {"tools": tools})
        continued = perf_counter()
        with self._database:
            self._database.execute("DELETE FROM runs WHERE run_id = ?", (run["run_id"],))
        return created - asked, continued - created

    def _post(self, path: str, form: dict[str, str]) -> dict[str, Any]:
        answer = self._client.post(path, content=urlencode({**form, "stream": "false"}), headers=_FORM)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body


def measure(subject: Subject, folder: Path, rounds: int) -> list[str]:
    """Return the lines that say what was measured."""
    names = {count: f"after-{count}" for count in EARLIER}
    file = folder / "unpause.db"
    with serving_process(subject, folder, sqlite_url(file)) as server:
        seed_sessions(file, subject.agent_id, {name: count for count, name in names.items()}, _ANSWER)
        address = f"http://127.0.0.1:{server.port}"
        with (
            httpx.Client(base_url=address, timeout=60, trust_env=False) as client,
            closing(sqlite3.connect(file)) as database,
        ):
            times = _times(Sessions(client, database, subject.agent_id), names, rounds)
            if database.execute("SELECT count(*) FROM runs").fetchone()[0] != sum(EARLIER):
                message = "the sessions did not keep their length"
                raise RuntimeError(message)
    return [f"{subject.key}, {rounds} rounds, p50 in ms", *_lines(times)]


def _times(sessions: Sessions, names: dict[int, str], rounds: int) -> dict[int, list[tuple[float, float]]]:
    times: dict[int, list[tuple[float, float]]] = {count: [] for count in names}
    for number in range(_WARM_UP + rounds):
        # Each round begins with another session, so that none always comes after the same one.
        order = [*names.items()]
        turn = number % len(order)
        for count, name in order[turn:] + order[:turn]:
            measured = sessions.cycle(name)
            if number >= _WARM_UP:
                times[count].append(measured)
    return times


def _lines(times: dict[int, list[tuple[float, float]]]) -> list[str]:
    halves = {
        count: [statistics.median(column) * 1000 for column in zip(*measured, strict=True)]
        for count, measured in times.items()
    }
    first, full = halves[EARLIER[0]], halves[_HISTORY]
    lines = ["earlier runs   create   to 1   to 10   continue   to 1   to 10"]
    for count, (create, cont) in halves.items():
        ratios = (create / first[0], create / full[0], cont / first[1], cont / full[1])
        lines.append(
            f"{count:12}   {create:6.2f}   {ratios[0]:4.2f}   {ratios[1]:5.2f}"
            f"   {cont:8.2f}   {ratios[2]:4.2f}   {ratios[3]:5.2f}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure with the scripted driver and with Pydantic AI's, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="cycles in each session")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for key in ("unpause-scripted", "unpause-0"):
            for line in measure(find_subject(key), Path(folder) / key, options.rounds):
                sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
