"""Puts the pseudonym where the user's name stands in what belongs to others: who decided, continued, may decide."""

from __future__ import annotations

import json
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, and_, cast, or_, select, tuple_, update

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
    from collections.abc import Callable, Iterable

    from sqlalchemy import Column, ColumnElement, Table
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


def list_renames(erased: Erased) -> list[Callable[[Connection], int]]:
    """Return the units that write the pseudonym: each changes a batch of rows and returns how many, at last none."""
    return [
        *(partial(_rename_column, erased=erased, column=column) for column in _NAMED),
        partial(_rename_inputs, erased=erased),
        *(partial(_rename_json, erased=erased, column=column) for column in _LISTS),
        partial(_rename_events, erased=erased),
        partial(_rename_deliveries, erased=erased),
    ]


def _rename_column(connection: Connection, erased: Erased, column: Column[str]) -> int:
    table = column.table
    some = select(table.c.id).where(table.c.organization_id == erased.organization_id, column == erased.name)
    # Once more the name: somebody else's may stand there since the rows were found.
    changed = update(table).where(table.c.id.in_(some.limit(_BATCH)), column == erased.name)
    return connection.execute(changed.values({column.name: erased.pseudonym})).rowcount


def _rename_inputs(connection: Connection, erased: Erased) -> int:
    key = tuple_(inputs.c.run_key, inputs.c.position)
    some = (
        select(inputs.c.run_key, inputs.c.position)
        .join(runs, runs.c.id == inputs.c.run_key)
        .where(runs.c.organization_id == erased.organization_id, inputs.c.created_by == erased.name)
        .limit(_BATCH)
    )
    found = [tuple(row) for row in connection.execute(some)]
    return connection.execute(update(inputs).where(key.in_(found)).values(created_by=erased.pseudonym)).rowcount


def _rename_json(connection: Connection, erased: Erased, column: Column[Any]) -> int:
    table = column.table
    query = select(table.c.id, column).where(
        table.c.organization_id == erased.organization_id, mentions(cast(column, Text), erased.name)
    )
    if table is requirements:
        different = (key for key, value in connection.execute(query).all() if erased.replaced_names(value) != value)
        query = select(table.c.id, column).where(table.c.id.in_(_locked(connection, islice(different, _BATCH))))
    return _rewrite(connection, table, column, query, erased)


def _locked(connection: Connection, keys: Iterable[str]) -> list[str]:
    """Lock the runs of these requirements, as those who vote do: neither overwrites what the other has written."""
    found = list(keys)
    of_them = select(requirements.c.run_key).where(requirements.c.id.in_(found))
    connection.execute(select(runs.c.id).where(runs.c.id.in_(of_them)).order_by(runs.c.id).with_for_update())
    return found


def _rename_events(connection: Connection, erased: Erased) -> int:
    query = (
        select(events.c.run_key, events.c.sequence, events.c.payload)
        .join(runs, runs.c.id == events.c.run_key)
        .where(runs.c.organization_id == erased.organization_id, mentions(cast(events.c.payload, Text), erased.name))
        .execution_options(yield_per=_BATCH)
    )
    different = (
        (run_key, sequence, replaced)
        for run_key, sequence, payload in connection.execute(query)
        if (replaced := erased.replaced(payload)) != payload
    )
    changed = list(islice(different, _BATCH))
    for run_key, sequence, replaced in changed:
        event = and_(events.c.run_key == run_key, events.c.sequence == sequence)
        connection.execute(update(events).where(event).values(payload=replaced))
    return len(changed)


def _rename_deliveries(connection: Connection, erased: Erased) -> int:
    column = webhook_deliveries.c.payload
    query = select(webhook_deliveries.c.id, column).where(
        webhook_deliveries.c.organization_id == erased.organization_id, mentions(column, erased.name)
    )
    return _rewrite(connection, webhook_deliveries, column, query, erased)


def _rewrite(connection: Connection, table: Table, column: Column[Any], query: Any, erased: Erased) -> int:  # noqa: ANN401 - a query of two columns
    """Write what is different with the pseudonym, of at most so many rows."""
    is_text = isinstance(column.type, Text)
    count = 0
    for key, value in connection.execute(query).all():
        old = load_json(value) if is_text else value
        new = erased.replaced_names(old) if isinstance(old, list) else erased.replaced(old)
        if new == old:
            continue
        written = dump_json(new) if is_text else new
        connection.execute(update(table).where(table.c.id == key).values({column.name: written}))
        count += 1
        if count == _BATCH:
            break
    return count


def mentions(text: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """Whether JSON may have the name in it, in either way of writing other letters; a first, rough choice."""
    forms = {dump_json(name)[1:-1], json.dumps(name)[1:-1]}
    return or_(*(text.contains(form, autoescape=True) for form in sorted(forms)))
