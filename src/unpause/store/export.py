"""Reads runs with all that belongs to them, page by page, for an export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from unpause.store.tables import approvals, events, inputs, messages, requirements, runs, tool_calls

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

# The rows of a run, by the name that an export gives them, each in the order in which they came.
_PARTS: Final = {
    "inputs": (inputs, "position"),
    "messages": (messages, "position"),
    "tool_calls": (tool_calls, "position"),
    "requirements": (requirements, "position"),
    "approvals": (approvals, "created_at"),
    "events": (events, "sequence"),
}


def read_runs(
    connection: Connection, after: int, limit: int, since: datetime | None, organization_id: int | None
) -> list[dict[str, Any]]:
    """Return the columns of runs after an id, oldest first, each with lists of its rows under their names."""
    chosen = select(runs).where(runs.c.id > after).order_by(runs.c.id).limit(limit)
    if since is not None:
        chosen = chosen.where(runs.c.created_at >= since)
    if organization_id is not None:
        chosen = chosen.where(runs.c.organization_id == organization_id)
    found: dict[int, dict[str, Any]] = {}
    for row in connection.execute(chosen).mappings():
        found[row["id"]] = {**row, **{name: [] for name in _PARTS}}
    for name, (table, order) in _PARTS.items():
        columns = [column for column in table.c if column.name not in {"run_key", "organization_id"}]
        parts = select(table.c.run_key.label("of"), *columns).where(table.c.run_key.in_(found)).order_by(table.c[order])
        for row in connection.execute(parts).mappings():
            found[row["of"]][name].append({key: value for key, value in row.items() if key != "of"})
    return list(found.values())
