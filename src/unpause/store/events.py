"""The log: every event of every run, numbered without gaps within its run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, and_, bindparam, case, func, insert, null, or_, select

from unpause.domain.events import Event, EventType
from unpause.store.engine.statements import Statement
from unpause.store.large_results import fold_payload, unfold
from unpause.store.paging import paged
from unpause.store.tables import events, runs
from unpause.store.unreadable import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from unpause.domain.events import EventSelection
    from unpause.store.engine.statements import Record

_INSERT = Statement(insert(events))
_AFTER = Statement(
    select(events.c.sequence, events.c.type, events.c.payload, events.c.created_at)
    .where(events.c.run_key == bindparam("key"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
    .limit(bindparam("limit"))
)
_IS_PAUSE = events.c.type == EventType.RUN_PAUSED.value
_STEPS = (
    select(
        events.c.sequence,
        events.c.type,
        events.c.created_at,
        case((_IS_PAUSE, null()), else_=events.c.payload).label("payload"),
        case((_IS_PAUSE, events.c.payload["pause_id"].as_string())).label("pause_id"),
    )
    .where(events.c.run_key == bindparam("key"), events.c.type != EventType.CONTENT_DELTA.value)
    .order_by(events.c.sequence)
    .limit(bindparam("limit"))
)


def add_events(connection: Connection, run_key: int, added: Sequence[Event], last: int) -> tuple[Event, ...]:
    """Append the events, the newest of which gets the reserved number ``last``; return them numbered."""
    if not added:
        return ()
    first = last - len(added) + 1
    numbered = tuple(Event(event.type, event.at, event.payload, number) for number, event in enumerate(added, first))
    rows = [
        {
            "run_key": run_key,
            "sequence": event.sequence,
            "type": event.type.value,
            "payload": fold_payload(event.payload),
            "created_at": event.at,
        }
        for event in numbered
    ]
    _INSERT.send(connection, *rows)
    return numbered


def list_events(connection: Connection, run_key: int, after: int, limit: int) -> list[Event]:
    """Return up to ``limit`` events of the run after number ``after``, in order."""
    with readable():
        rows = _AFTER.all(connection, {"key": run_key, "after": after, "limit": limit})
        return _whole(connection, run_key, [_event(row) for row in rows])


def list_chosen_events(connection: Connection, run_key: int, selection: EventSelection) -> tuple[list[Event], int]:
    """Return a page of the run's events of the selected types, and how many of these there are in all."""
    conditions = (events.c.run_key == run_key, or_(*(_is_shown(*item) for item in selection.types.items())))
    query = (
        select(events.c.sequence, events.c.type, events.c.payload, events.c.created_at)
        .where(*conditions)
        .order_by(events.c.sequence.desc() if selection.newest_first else events.c.sequence)
    )
    counted = select(func.count()).select_from(events).where(*conditions)
    with readable():
        rows = connection.execute(paged(query, selection.page)).mappings()
        found = _whole(connection, run_key, [_event(row) for row in rows])
    return found, int(connection.execute(counted).scalar_one())


def find_run_of_pause(connection: Connection, session_key: int, pause_id: str) -> int | None:
    """Return the run of the session that was paused under this id at some time."""
    query = (
        select(events.c.run_key)
        .join(runs, runs.c.id == events.c.run_key)
        .where(runs.c.session_key == session_key, _IS_PAUSE, events.c.payload["pause_id"].as_string() == pause_id)
        .limit(1)
    )
    found: int | None = connection.execute(query).scalar()
    return found


def find_segment_end(connection: Connection, run_key: int, after: int) -> int | None:
    """Return the number of the first event after number ``after`` that ends a segment; None where there is none."""
    ends = [event_type.value for event_type in EventType if event_type.ends_segment]
    query = select(func.min(events.c.sequence)).where(
        events.c.run_key == run_key, events.c.sequence > after, events.c.type.in_(ends)
    )
    found: int | None = connection.execute(query).scalar_one()
    return found


def list_steps(connection: Connection, run_key: int, limit: int) -> list[Event]:
    """Return up to ``limit`` events of the run, in order, without the pieces of the model's text.

    Of a pause there is the ``pause_id`` alone: its payload repeats all calls of the run.
    """
    with readable():
        rows = connection.execute(_STEPS, {"key": run_key, "limit": limit}).mappings().all()
        found = [
            _event({**row, "payload": {"pause_id": row["pause_id"]} if row["payload"] is None else row["payload"]})
            for row in rows
        ]
        return _whole(connection, run_key, found)


def _is_shown(event_type: EventType, key: str | None) -> ColumnElement[bool]:
    of_type = events.c.type == event_type.value
    return of_type if key is None else and_(of_type, events.c.payload[key].as_string().is_not(None))


def _whole(connection: Connection, run_key: int, found: list[Event]) -> list[Event]:
    unfold(connection, [(run_key, event.payload) for event in found])
    return found


def _event(row: Record) -> Event:
    return Event(type=EventType(row["type"]), at=row["created_at"], payload=row["payload"], sequence=row["sequence"])
