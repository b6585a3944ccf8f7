"""Erases a user of an organization: texts go, names become a pseudonym, the audit trail stays verifiable.

Each step is a transaction, and finds what is left by the name itself: an erasure that is interrupted goes on where it
was, with the same pseudonym.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.audit_chain import Head, write_numbers
from unpause.domain.erasure import Erased, is_pseudonym, new_pseudonym
from unpause.errors import InvalidInput
from unpause.services.audit_chain import BATCH, seal_after
from unpause.services.cancel_run import Cancellation, cancel
from unpause.store.audit import add_entries
from unpause.store.audit_chain import add_head, list_unsealed, lock_head
from unpause.store.engine.dialects import read_now
from unpause.store.erasure.audit import erase_entries, find_entries
from unpause.store.erasure.names import list_renames
from unpause.store.erasure.progress import (
    begin_erasure,
    count_rows,
    end_erasure,
    find_erasure,
    find_newest,
    list_unfinished,
)
from unpause.store.erasure.texts import (
    erase_grants,
    erase_old_deliveries,
    erase_runs,
    erase_sessions,
    revoke_access,
)
from unpause.store.runs import find_by_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import TypeVar

    from unpause.clock import Clock
    from unpause.domain.principal import Principal
    from unpause.store.engine.database import Connection, Database
    from unpause.store.erasure.names import Step

    T = TypeVar("T")

# Rows of one transaction. A run has many more rows of its own.
_RUN_BATCH: Final = 20
_ENTRY_BATCH: Final = 200
_BATCH: Final = 500
# The user's own requests may add rows while others are erased.
_MAX_ROUNDS: Final = 5
_MAX_LISTED: Final = 5


class Found(NamedTuple):
    """What is stored of a user: rows by kind, and the runs that have not ended."""

    counts: dict[str, int]
    unfinished: list[tuple[int, str, str]]
    is_begun: bool

    @property
    def is_nothing(self) -> bool:
        """Whether the name is unknown."""
        return not self.counts and not self.is_begun


class Erasure:
    """Erases users, in the name of the operator ``by``, whose organization is theirs."""

    def __init__(self, database: Database, clock: Clock, by: Principal) -> None:
        self._database = database
        self._clock = clock
        self._by = by

    async def look(self, name: str) -> Found:
        """Return what is stored of the user."""
        organization_id = self._by.organization_id
        _refuse_pseudonym(name)

        def unit(connection: Connection) -> Found:
            counts = count_rows(connection, organization_id, name)
            unfinished = list_unfinished(connection, organization_id, name)
            return Found(counts, unfinished, find_erasure(connection, organization_id, name) is not None)

        return await self._database.read(unit)

    async def erase(self, name: str, *, cancels: bool) -> str:
        """Erase the user and return the pseudonym; raise InvalidInput for runs that have not ended, unless it cancels.

        Nothing has changed then.
        """
        _refuse_pseudonym(name)
        erased = await self._write(lambda connection, now: self._begin(connection, name, now, cancels=cancels))
        for _ in range(_MAX_ROUNDS):
            # In each round: a request that had begun before may have added a token, a channel or a grant.
            await self._write(lambda connection, now: self._revoke(connection, erased, now))
            newest, newest_entry = await self._database.read(
                lambda connection: find_newest(connection, erased.organization_id)
            )
            await self._erase_texts(erased, newest)
            await self._erase_trail(erased, newest_entry)
            await self._erase_sessions(erased)
            await self._erase_names(erased, newest)
            left = await self.look(name)
            if not {what for what in left.counts if what != "users"}:
                break
        else:
            message = f"requests in the name of {name!r} go on; refuse them first where they come from"
            raise InvalidInput(f"{message}, then run the command again")
        await self._write(lambda connection, _: end_erasure(connection, erased))
        return erased.pseudonym

    def _begin(self, connection: Connection, name: str, now: datetime, *, cancels: bool) -> Erased:
        organization_id = self._by.organization_id
        unfinished = list_unfinished(connection, organization_id, name)
        if unfinished and not cancels:
            listed = ", ".join(f"{run_id} ({status})" for _, run_id, status in unfinished[:_MAX_LISTED])
            more = f" and {len(unfinished) - _MAX_LISTED} more" if len(unfinished) > _MAX_LISTED else ""
            raise InvalidInput(f"Runs have not ended: {listed}{more}; wait, or add --cancel")
        for run_key, _, _ in unfinished:
            self._cancel(connection, run_key, now)
        found = find_erasure(connection, organization_id, name)
        if found is not None:
            return found
        erased = Erased(organization_id, name, new_pseudonym())
        begin_erasure(connection, erased, now)
        # That of another process where it has begun meanwhile.
        return find_erasure(connection, organization_id, name) or erased

    def _cancel(self, connection: Connection, run_key: int, now: datetime) -> None:
        run = find_by_key(connection, run_key, locked=True)
        if run is None or run.status.is_final:
            return
        done = entry_by(self._by, AuditAction.CANCELLED, now, run_id=run.run_id, subject=run.run_id)
        add_entries(connection, [done])
        why = Cancellation(content=f"Run {run.run_id} was cancelled", payload={"by": self._by.name})
        cancel(connection, run, why, now)

    def _revoke(self, connection: Connection, erased: Erased, now: datetime) -> None:
        add_head(connection, erased.organization_id)
        revoked = revoke_access(connection, erased, now)
        erase_grants(connection, erased, now)
        add_entries(connection, [entry_by(self._by, AuditAction.TOKEN_REVOKED, now, subject=each) for each in revoked])

    async def _erase_texts(self, erased: Erased, newest: int) -> None:
        await self._in_batches(erase_runs(erased, newest, _RUN_BATCH))
        await self._in_batches(erase_old_deliveries(erased, _BATCH))

    async def _erase_sessions(self, erased: Erased) -> None:
        await self._in_batches(erase_sessions(erased, _BATCH))

    async def _erase_names(self, erased: Erased, newest: int) -> None:
        for step in list_renames(erased, newest):
            await self._in_batches(step)

    async def _erase_trail(self, erased: Erased, newest: int) -> None:
        """Erase the user from the entries up to the newest, which are sealed for that; the trail says which ones."""
        while await self._database.read(lambda connection: _has_unsealed(connection, erased, newest)):
            await self._database.write(lambda connection: self._seal(connection, erased))
        find = partial(self._find_entries, erased)
        last: int | None = None
        while numbers := await self._database.read(partial(find, last)):
            await self._write(partial(self._erase_entries, erased, numbers))
            last = numbers[-1]

    def _seal(self, connection: Connection, erased: Erased) -> int:
        return len(seal_after(connection, erased.organization_id, self._lock(connection, erased)))

    @staticmethod
    def _find_entries(erased: Erased, after: int | None, connection: Connection) -> Sequence[int]:
        return find_entries(connection, erased, after, _ENTRY_BATCH)

    def _erase_entries(self, erased: Erased, numbers: Sequence[int], connection: Connection, now: datetime) -> None:
        self._lock(connection, erased)
        actors, texts = erase_entries(connection, erased, numbers)
        if actors or texts:
            details = {"pseudonym": erased.pseudonym, "actors": write_numbers(actors), "texts": write_numbers(texts)}
            by = replace(self._by, organization_id=erased.organization_id)
            add_entries(connection, [entry_by(by, AuditAction.USER_ERASED, now, details=details)])
            # With it: until it is in the chain, nothing accounts for what is missing.
            while self._seal(connection, erased) == BATCH:
                pass

    @staticmethod
    def _lock(connection: Connection, erased: Erased) -> Head:
        head = lock_head(connection, erased.organization_id, waits=True)
        # It is there: the lock was waited for.
        return head or Head()

    async def _in_batches(self, step: Step) -> None:
        """Do the step batch after batch. Beside busy writers each write waits long, so none is begun in vain."""
        last: Any = None
        while keys := await self._database.read(partial(self._find, step, last)):
            await self._database.write(partial(self._change, step, keys))
            last = keys[-1]

    @staticmethod
    def _find(step: Step, after: Any, connection: Connection) -> Sequence[Any]:  # noqa: ANN401 - a key of any table
        return step.find(connection, after)

    @staticmethod
    def _change(step: Step, keys: Sequence[Any], connection: Connection) -> None:
        step.change(connection, keys)

    async def _write(self, unit: Callable[[Connection, datetime], T]) -> T:
        return await self._database.write(lambda connection: unit(connection, read_now(connection, self._clock.now())))


def _has_unsealed(connection: Connection, erased: Erased, newest: int) -> bool:
    oldest = list_unsealed(connection, erased.organization_id, 1)
    return bool(oldest) and (oldest[0].id or 0) <= newest


def _refuse_pseudonym(name: str) -> None:
    if is_pseudonym(name):
        raise InvalidInput(f"{name} stands for a user that was erased")
