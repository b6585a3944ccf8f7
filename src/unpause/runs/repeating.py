"""Recognizes a request that was made before, by its Idempotency-Key, inside the transaction of what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.errors import IdempotencyMismatch
from unpause.runs.commands import Accepted
from unpause.store.idempotency import claim_request
from unpause.store.runs import RunKey, get_run

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.store.database import Connection
    from unpause.store.idempotency import EarlierRequest, RequestKey


def find_earlier(connection: Connection, asked: RequestKey | None, now: datetime) -> Accepted | None:
    """Return what the request's key did to a run before; None where there is no key, or it is new and now taken.

    Raises IdempotencyMismatch for a key that was used with something else.
    """
    found = _claimed(connection, asked, now)
    if found is None or asked is None:
        return None
    if found.run_key is None:
        raise IdempotencyMismatch
    run = get_run(connection, RunKey(asked.organization_id, id=found.run_key))
    return Accepted(run, found.after, answer=found.answer)


def is_repeated(connection: Connection, asked: RequestKey, now: datetime) -> bool:
    """Return whether the key did this before; if not, it is taken now. Raises IdempotencyMismatch."""
    return _claimed(connection, asked, now) is not None


def _claimed(connection: Connection, asked: RequestKey | None, now: datetime) -> EarlierRequest | None:
    if asked is None:
        return None
    found = claim_request(connection, asked, now)
    if found is not None and found.fingerprint != asked.fingerprint:
        raise IdempotencyMismatch
    return found
