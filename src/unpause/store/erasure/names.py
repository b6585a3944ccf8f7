"""Puts the pseudonym where the user's name stands in what belongs to others: who decided, continued, may decide."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Text, cast, exists, func, or_, select, update

from unpause.domain.json import dump_json, load_json
from unpause.store.tables import (
    approvals,
    events,
    grants,
    inputs,
    requirements,
    runs,
    sessions,
    webhook_deliveries,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column, ColumnElement, Select
    from sqlalchemy.engine import Connection

    from unpause.domain.erasure import Erased

_NAMED: Final[tuple[Column[str], ...]] = (
    runs.c.continued_by,
    approvals.c.user_id,
    approvals.c.resolved_by,
    requirements.c.decided_by,
    grants.c.granter,
    grants.c.revoked_by,
    sessions.c.user_id,
)
# Lists of names, or of votes, in JSON.
_LISTS: Final[tuple[Column[Any], ...]] = (requirements.c.votes, requirements.c.deciders, grants.c.deciders)
_BATCH: Final = 500
# A run has many events.
_RUNS: Final = 50
_LOGS: Final = 500


class Step(NamedTuple):
    """Rows to be changed, by their keys: ``find`` returns some that come after a key, ``change`` changes these.

    Finding reads all rows of an organization, so it is a transaction of its own, for which no writer waits.
    """

    find: Callable[[Connection, Any], Sequence[Any]]
    change: Callable[[Connection, Sequence[Any]], object]


def list_renames(erased: Erased, newest: int) -> list[Step]:
    """Return the steps that write the pseudonym; those through the logs of runs end with the run ``newest``."""
    return [
        *(_rename_column(erased, column) for column in _NAMED),
        Step(partial(_find_inputs, erased, newest), partial(_rename_inputs, erased)),
        *(_rename_json(erased, column) for column in _LISTS),
        Step(partial(_find_events, erased, newest), partial(_rename_events, erased)),
        _rename_json(erased, webhook_deliveries.c.payload),
    ]


def _rename_column(erased: Erased, column: Column[str]) -> Step:
    table = column.table

    def find(connection: Connection, after: Any) -> Sequence[Any]:  # noqa: ANN401 - a key of the table
        named = select(table.c.id).where(table.c.organization_id == erased.organization_id, column == erased.name)
        return connection.execute(_some(named, table.c.id, after)).scalars().all()

    def change(connection: Connection, keys: Sequence[Any]) -> None:
        # Once more the name: somebody else's may stand there since the rows were found.
        changed = update(table).where(table.c.id.in_(keys), column == erased.name)
        connection.execute(changed.values({column.name: erased.pseudonym}))

    return Step(find, change)


def _some(query: Select[Any], key: Column[Any], after: Any) -> Select[Any]:  # noqa: ANN401 - a key of the table
    return (query if after is None else query.where(key > after)).order_by(key).limit(_BATCH)


def _find_inputs(erased: Erased, newest: int, connection: Connection, after: int | None) -> Sequence[int]:
    named = select(runs.c.id).where(
        runs.c.organization_id == erased.organization_id,
        runs.c.id <= newest,
        exists().where(inputs.c.run_key == runs.c.id, inputs.c.created_by == erased.name),
    )
    return connection.execute(_some(named, runs.c.id, after)).scalars().all()


def _rename_inputs(erased: Erased, connection: Connection, run_keys: Sequence[int]) -> None:
    of_user = (inputs.c.run_key.in_(run_keys), inputs.c.created_by == erased.name)
    connection.execute(update(inputs).where(*of_user).values(created_by=erased.pseudonym))


def _rename_json(erased: Erased, column: Column[Any]) -> Step:
    table = column.table
    replaced = partial(_replaced, erased, column)

    def find(connection: Connection, after: Any) -> Sequence[Any]:  # noqa: ANN401 - a key of the table
        named = select(table.c.id, column).where(
            table.c.organization_id == erased.organization_id, mentions(cast(column, Text), erased.name)
        )
        named = (named if after is None else named.where(table.c.id > after)).order_by(table.c.id)
        rows = connection.execute(named.execution_options(yield_per=_BATCH))
        return list(islice((key for key, value in rows if replaced(value) is not None), _BATCH))

    def change(connection: Connection, keys: Sequence[Any]) -> None:
        if table is requirements:
            _lock(connection, keys)
        for key, value in connection.execute(select(table.c.id, column).where(table.c.id.in_(keys))).all():
            written = replaced(value)
            if written is not None:
                connection.execute(update(table).where(table.c.id == key).values({column.name: written}))

    return Step(find, change)


def _replaced(erased: Erased, column: Column[Any], value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a column's value with the pseudonym; None where the name is not in it."""
    if value is None:
        return None
    is_text = isinstance(column.type, Text)
    old = load_json(value) if is_text else value
    new = erased.replaced_names(old) if isinstance(old, list) else erased.replaced(old)
    if new == old:
        return None
    return dump_json(new) if is_text else new


def _lock(connection: Connection, keys: Sequence[str]) -> None:
    """Lock the runs of these requirements, as those who vote do: neither overwrites what the other has written."""
    of_them = select(requirements.c.run_key).where(requirements.c.id.in_(keys))
    connection.execute(select(runs.c.id).where(runs.c.id.in_(of_them)).order_by(runs.c.id).with_for_update())


def _find_events(erased: Erased, newest: int, connection: Connection, after: int | None) -> Sequence[int]:
    """Return runs that have events with the name: these are looked for in the logs of some runs after others."""
    among = select(runs.c.id).where(runs.c.organization_id == erased.organization_id, runs.c.id <= newest)
    last, found = after or 0, set[int]()
    while len(found) < _RUNS:
        following = among.where(runs.c.id > last).order_by(runs.c.id).limit(_LOGS).subquery()
        end: int | None = connection.execute(select(func.max(following.c.id))).scalar()
        if end is None:
            break
        within = events.c.run_key.between(last + 1, end) & runs.c.id.between(last + 1, end)
        of_organization = (
            _with_name(erased)
            .join(runs, runs.c.id == events.c.run_key)
            .where(within, runs.c.organization_id == erased.organization_id)
        )
        rows = connection.execute(of_organization)
        found.update(row.run_key for row in rows if erased.replaced(row.payload) != row.payload)
        last = end
    return sorted(found)[:_RUNS]


def _rename_events(erased: Erased, connection: Connection, run_keys: Sequence[int]) -> None:
    for run_key, sequence, payload in connection.execute(
        _with_name(erased).where(events.c.run_key.in_(run_keys))
    ).all():
        replaced = erased.replaced(payload)
        if replaced != payload:
            event = (events.c.run_key == run_key, events.c.sequence == sequence)
            connection.execute(update(events).where(*event).values(payload=replaced))


def _with_name(erased: Erased) -> Select[Any]:
    has_name = mentions(cast(events.c.payload, Text), erased.name)
    return select(events.c.run_key, events.c.sequence, events.c.payload).where(has_name)


def mentions(text: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Whether JSON may have the name in it, in either way of writing other letters; a first, rough choice."""
    forms = {dump_json(name)[1:-1], json.dumps(name)[1:-1]}
    return or_(*(text.contains(form, autoescape=True) for form in sorted(forms)))
