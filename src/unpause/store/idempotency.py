"""What requests with an Idempotency-Key did, so that a repeated request does nothing twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, bindparam, delete, func, select, tuple_, update

from unpause.store.columns import Instant
from unpause.store.engine.dialects import Upsert
from unpause.store.engine.statements import Statement
from unpause.store.tables import idempotency_keys

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.idempotency import RequestKey

_CLAIM = Upsert(idempotency_keys, (idempotency_keys.c.organization_id, idempotency_keys.c.key))
# The first entry of an index, or none.
_IS_ANY_OLDER = Statement(
    select((func.min(idempotency_keys.c.created_at) < bindparam("before", type_=Instant)).label("found"))
)


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """What the first request with a key did. ``answer`` is None until it was answered."""

    fingerprint: str
    run_key: int | None
    after: int
    answer: str | None


def find_request(connection: Connection, request: RequestKey, *, locks: bool = False) -> EarlierRequest | None:
    """Return what the request with the key did, whatever its fingerprint; None for a new key."""
    query = select(*idempotency_keys.c).where(*_is(request))
    row = connection.execute(query.with_for_update() if locks else query).first()
    return None if row is None else EarlierRequest(row.fingerprint, row.run_key, row.after, row.answer)


def claim_request(connection: Connection, request: RequestKey, now: datetime) -> EarlierRequest | None:
    """Take the key for this transaction; return what the request with it did, where it is not new.

    Of two transactions with one new key the second waits for the first, and then finds it.
    """
    values = {
        "organization_id": request.organization_id,
        "key": request.key,
        "fingerprint": request.fingerprint,
        "created_at": now,
    }
    found = None
    # One that is deleted between the two statements is new after all.
    while found is None:
        if _CLAIM.on(connection).first(connection, values) is not None:
            return None
        # Locked, which is a write: on a server with a synchronous standby its commit waits until that has the earlier
        # request, too, whose own wait may have been cut short.
        found = find_request(connection, request, locks=True)
    return found


def add_effect(connection: Connection, request: RequestKey, run_key: int | None, after: int) -> None:
    """Store what the request with this key did: the run, and the number of the last event before it."""
    connection.execute(update(idempotency_keys).where(*_is(request)).values(run_key=run_key, after=after))


def forget_request(connection: Connection, request: RequestKey) -> None:
    """Delete the key: the request did nothing, and may be sent again."""
    connection.execute(delete(idempotency_keys).where(*_is(request)))


def keep_answer(connection: Connection, request: RequestKey, answer: str) -> None:
    """Store the answer, unless one is stored already."""
    connection.execute(
        update(idempotency_keys).where(*_is(request), idempotency_keys.c.answer.is_(None)).values(answer=answer)
    )


def _is(request: RequestKey) -> tuple[ColumnElement[bool], ...]:
    return (
        idempotency_keys.c.organization_id == request.organization_id,
        idempotency_keys.c.key == request.key,
    )


def has_requests(connection: Connection, before: datetime) -> bool:
    """Whether a key was first used before this time."""
    [row] = _IS_ANY_OLDER.all(connection, {"before": before})
    return bool(row["found"])


def delete_requests(connection: Connection, before: datetime) -> None:
    """Delete the keys that were first used before this time, except those that are locked."""
    key = (idempotency_keys.c.organization_id, idempotency_keys.c.key)
    free = select(*key).where(idempotency_keys.c.created_at < before).with_for_update(skip_locked=True)
    connection.execute(delete(idempotency_keys).where(tuple_(*key).in_(free)))
