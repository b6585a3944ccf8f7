"""What requests with an Idempotency-Key did, so that the same key does it only once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, exists, select, tuple_, update

from unpause.store.engine.upserts import Upsert
from unpause.store.tables import idempotency_keys

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.idempotency import RequestKey

_CLAIM = Upsert(idempotency_keys, (idempotency_keys.c.organization_id, idempotency_keys.c.key))


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """What the first request with a key did. ``answer`` is None until one was given."""

    fingerprint: str
    run_key: int | None
    after: int
    answer: str | None


def find_request(connection: Connection, asked: RequestKey) -> EarlierRequest | None:
    """Return what the key did before, whatever was asked with it; None for a new key."""
    row = connection.execute(select(*idempotency_keys.c).where(*_is(asked))).first()
    return None if row is None else EarlierRequest(row.fingerprint, row.run_key, row.after, row.answer)


def claim_request(connection: Connection, asked: RequestKey, now: datetime) -> EarlierRequest | None:
    """Take the key for this transaction; return what it did before, where it is not new.

    Of two transactions with one new key the second waits for the first, and then finds it.
    """
    values = {
        "organization_id": asked.organization_id,
        "key": asked.key,
        "fingerprint": asked.fingerprint,
        "created_at": now,
    }
    found = None
    # One that is forgotten between the two statements is new after all.
    while found is None:
        if connection.execute(_CLAIM.on(connection), values).first() is not None:
            return None
        found = find_request(connection, asked)
    return found


def add_effect(connection: Connection, asked: RequestKey, run_key: int | None, after: int) -> None:
    """Keep what the request with this key did: the run, and the number of its last event before."""
    connection.execute(update(idempotency_keys).where(*_is(asked)).values(run_key=run_key, after=after))


def forget_request(connection: Connection, asked: RequestKey) -> None:
    """Give the key back: the request did nothing, and may be sent again."""
    connection.execute(delete(idempotency_keys).where(*_is(asked)))


def keep_answer(connection: Connection, asked: RequestKey, answer: str) -> None:
    """Keep the answer that was given, unless one is kept already."""
    connection.execute(
        update(idempotency_keys).where(*_is(asked), idempotency_keys.c.answer.is_(None)).values(answer=answer)
    )


def _is(asked: RequestKey) -> tuple[ColumnElement[bool], ...]:
    return (
        idempotency_keys.c.organization_id == asked.organization_id,
        idempotency_keys.c.key == asked.key,
    )


def has_requests(connection: Connection, before: datetime) -> bool:
    """Whether a key was first used before this moment."""
    return bool(connection.execute(select(exists().where(idempotency_keys.c.created_at < before))).scalar())


def delete_requests(connection: Connection, before: datetime) -> None:
    """Forget the keys that were first used before this moment, but for those that somebody has locked."""
    key = (idempotency_keys.c.organization_id, idempotency_keys.c.key)
    free = select(*key).where(idempotency_keys.c.created_at < before).with_for_update(skip_locked=True)
    connection.execute(delete(idempotency_keys).where(tuple_(*key).in_(free)))
