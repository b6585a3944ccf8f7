"""The log: every event of every run, numbered without gaps within its run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select

from unpause.domain.events import Event, EventType
from unpause.store.tables import events

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

_INSERT = insert(events)
_AFTER = (
    select(events.c.sequence, events.c.type, events.c.payload, events.c.created_at)
    .where(events.c.run_key == bindparam("key"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("most"))
)


def add_events(connection: Connection, run_key: int, added: Sequence[Event], last: int) -> tuple[Event, ...]:
    """Append the events, the newest of which gets the reserved number ``last``; return them numbered."""
    if not added:
        return ()
    first = last - len(added) + 1
    numbered = tuple(replace(event, sequence=first + offset) for offset, event in enumerate(added))
    connection.execute(
        _INSERT,
        [
            {
                "run_key": run_key,
                "sequence": event.sequence,
                "type": event.type.value,
                "payload": event.payload,
                "created_at": event.at,
            }
            for event in numbered
        ],
    )
    return numbered


def list_events(connection: Connection, run_key: int, after: int, limit: int) -> list[Event]:
    """Return up to ``limit`` events of the run after number ``after``, in order."""
    return [
        Event(type=EventType(row.type), at=row.created_at, payload=row.payload, sequence=row.sequence)
        for row in connection.execute(_AFTER, {"key": run_key, "after": after, "most": limit})
    ]
