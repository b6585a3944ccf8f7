"""Recognizes a request that was made before, by its Idempotency-Key, inside the transaction of what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.principal import Visibility
from unpause.domain.runs import RunRef
from unpause.errors import IdempotencyMismatch
from unpause.services.commands import Accepted
from unpause.store.idempotency import claim_request
from unpause.store.runs import get_run

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.domain.idempotency import RequestKey
    from unpause.store.engine.database import Connection
    from unpause.store.idempotency import EarlierRequest


def find_earlier(connection: Connection, asked: RequestKey | None, now: datetime) -> Accepted | None:
    """Return what the request's key did to a run before; None where there is no key, or it is new and now taken.

    Raises IdempotencyMismatch for a key that was used with something else.
    """
    found = find_repeated(connection, asked, now)
    if found is None or asked is None:
        return None
    if found.run_key is None:
        raise IdempotencyMismatch
    run = get_run(connection, Visibility(asked.organization_id), RunRef(id=found.run_key))
    return Accepted(run, found.after, answer=found.answer)


def find_repeated(connection: Connection, asked: RequestKey | None, now: datetime) -> EarlierRequest | None:
    """Return the request that the key did this with before; None without a key, or where it is new and now taken.

    Raises IdempotencyMismatch for a key that was used with something else.
    """
    if asked is None:
        return None
    found = claim_request(connection, asked, now)
    if found is not None and not asked.came_with(found.fingerprint):
        raise IdempotencyMismatch
    return found
