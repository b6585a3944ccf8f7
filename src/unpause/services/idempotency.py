"""Recognizes a repeated request by its Idempotency-Key, in the transaction of what it does; forgets old keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.principal import Visibility
from unpause.domain.runs import RunRef
from unpause.errors import IdempotencyMismatch
from unpause.services.commands import Accepted
from unpause.store.idempotency import claim_request, delete_requests, has_requests
from unpause.store.runs import get_run

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from unpause.clock import Clock
    from unpause.domain.idempotency import RequestKey
    from unpause.store.engine.database import Connection, Database
    from unpause.store.idempotency import EarlierRequest


def find_earlier(connection: Connection, request_key: RequestKey | None, now: datetime) -> Accepted | None:
    """Return what the request's key did to a run before; None without a key, and for a new one, which is taken now.

    Raises IdempotencyMismatch for a key that was used with something else.
    """
    found = find_repeated(connection, request_key, now)
    if found is None or request_key is None:
        return None
    if found.run_key is None:
        raise IdempotencyMismatch
    run = get_run(connection, Visibility(request_key.organization_id), RunRef(id=found.run_key))
    return Accepted(run, found.after, answer=found.answer)


def find_repeated(connection: Connection, request_key: RequestKey | None, now: datetime) -> EarlierRequest | None:
    """Return the earlier request with the key; None without a key, and for a new one, which is taken now.

    Raises IdempotencyMismatch for a key that was used with something else.
    """
    if request_key is None:
        return None
    found = claim_request(connection, request_key, now)
    if found is not None and not request_key.came_with(found.fingerprint):
        raise IdempotencyMismatch
    return found


class OldRequests:
    """Sweeps for keys that are older than they are kept."""

    def __init__(self, database: Database, clock: Clock, keep: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._keep = keep

    async def sweep(self) -> int:
        """Delete them; return 1 if there were any."""
        oldest = self._clock.now() - self._keep
        # Reading first keeps an idle server from writing.
        if not await self._database.query(lambda connection: has_requests(connection, oldest)):
            return 0
        await self._database.write(lambda connection: delete_requests(connection, oldest))
        return 1
