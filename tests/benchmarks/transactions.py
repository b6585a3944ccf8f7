"""Counts the SQLite transactions of one cycle of the server, so that a bare app can be made to do as many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, event

from tests.benchmarks.bare import Work
from tests.benchmarks.instant_agent import agent
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


async def count_transactions(folder: Path) -> dict[str, tuple[Work, Work]]:
    """Return by agent id what creating a run and continuing it does; one cycle before is not counted."""
    begun: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: Any) -> None:  # noqa: ANN401
        if statement.startswith("BEGIN"):
            begun.append(statement)

    counted = {}
    async with serving(folder, agents=[agent], drivers=[ScriptedDriver()]) as client:
        event.listen(Engine, "before_cursor_execute", note)
        try:
            for agent_id in ("scripted", "instant"):
                for _ in range(2):
                    begun.clear()
                    run = await _post(client, f"/agents/{agent_id}/runs", {"message": "go"})
                    creating = _work(begun)
                    begun.clear()
                    tools = f'[{{"tool_call_id":"{run["tools"][0]["tool_call_id"]}","confirmed":true}}]'
                    await _post(client, f"/agents/{agent_id}/runs/{run['run_id']}/continue", {"tools": tools})
                    counted[agent_id] = (creating, _work(begun))
        finally:
            event.remove(Engine, "before_cursor_execute", note)
    return counted


async def _post(client: httpx.AsyncClient, path: str, form: dict[str, str]) -> dict[str, Any]:
    answer = await client.post(path, data={**form, "stream": "false"})
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def _work(begun: list[str]) -> Work:
    writes = sum(statement == "BEGIN IMMEDIATE" for statement in begun)
    return Work(writes, len(begun) - writes)
