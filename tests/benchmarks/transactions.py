"""Counts the SQLite transactions and statements of one cycle of the server.

``python -m tests.benchmarks.transactions``: by agent, for creating a run and for continuing it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, event

from tests.benchmarks.instant_agent import agent
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

_CYCLES = 5

# Of one request: "writes" and "reads" are transactions.
Work = Counter[str]


class _Counter:
    """Hears of every transaction of every engine in this process."""

    def __init__(self) -> None:
        self._writing: dict[int, bool] = {}
        self._work = Work()
        self._listeners = (
            ("before_cursor_execute", self._note_statement),
            ("commit", self._note_commit),
        )

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Count during the block."""
        for name, listener in self._listeners:
            event.listen(Engine, name, listener)
        try:
            yield
        finally:
            for name, listener in self._listeners:
                event.remove(Engine, name, listener)

    def take(self) -> Work:
        """Return what was done since the last call."""
        work, self._work = self._work, Work()
        return work

    def _note_statement(self, connection: Connection, _cursor: object, statement: str, *_: Any) -> None:  # noqa: ANN401
        self._work["statements"] += 1
        if not statement.startswith(("BEGIN", "SELECT")):
            self._writing[id(connection)] = True

    def _note_commit(self, connection: Connection) -> None:
        self._work["writes" if self._writing.pop(id(connection), False) else "reads"] += 1


async def count_transactions(folder: Path) -> dict[str, tuple[Work, Work]]:
    """Return by agent id what creating a run and continuing it does: the least of a few cycles.

    More than the least happens where the machine is slow: events that are some milliseconds old are committed before
    the segment has ended.
    """
    counter = _Counter()
    counted = {}
    async with serving(folder, agents=[agent], drivers=[ScriptedDriver()]) as client:
        with counter.listening():
            for agent_id in ("scripted", "instant"):
                cycles = [await _cycle(client, agent_id, counter) for _ in range(_CYCLES)]
                counted[agent_id] = min(cycles, key=lambda cycle: sum(work.total() for work in cycle))
    return counted


async def _cycle(client: httpx.AsyncClient, agent_id: str, counter: _Counter) -> tuple[Work, Work]:
    run = await _post(client, f"/agents/{agent_id}/runs", {"message": "go"})
    creating = counter.take()
    tools = json.dumps([{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}])
    await _post(client, f"/agents/{agent_id}/runs/{run['run_id']}/continue", {"tools": tools})
    return creating, counter.take()


async def _post(client: httpx.AsyncClient, path: str, form: dict[str, str]) -> dict[str, Any]:
    answer = await client.post(path, data={**form, "stream": "false"})
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def main() -> None:
    """Count, and print the table."""
    sys.stdout.write("| agent | request | write transactions | read transactions | statements |\n")
    sys.stdout.write("| --- | --- | --- | --- | --- |\n")
    with TemporaryDirectory() as folder:
        counted = asyncio.run(count_transactions(Path(folder)))
    for agent_id, (creating, continuing) in counted.items():
        for name, work in (("create", creating), ("continue", continuing), ("cycle", creating + continuing)):
            figures = " | ".join(str(work[kind]) for kind in ("writes", "reads", "statements"))
            sys.stdout.write(f"| {agent_id} | {name} | {figures} |\n")


if __name__ == "__main__":
    main()
