"""Forgets what is over: in the background, and for the command line.

Runs that ended, entries of the audit trail, and messages to others that were delivered or given up, each after its own
time, and after an organization's own where it has one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from unpause.domain.audit import AuditAction, AuditEntry
from unpause.domain.retention import RetentionKind, RetentionScope
from unpause.durations import moment_ago
from unpause.store.audit import add_entries
from unpause.store.audit_chain import delete_oldest, lock_head
from unpause.store.organization_retention import get_own_rules, list_own_rules
from unpause.store.retention import (
    delete_empty_sessions,
    delete_ended_runs,
    delete_finished_messages,
    is_due,
    list_purgeable_chains,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from unpause.clock import Clock
    from unpause.domain.retention import RetentionRules
    from unpause.store.engine.database import Connection, Database

_log = structlog.get_logger(__name__)

# Rows of one transaction: on SQLite all other writers wait for it. A run has many more rows of its own.
BATCH: Final = 50
_ROW_BATCH: Final = 500
# Of one sweep, so that a server with a million old runs has time for new ones.
_MAX_BATCHES: Final = 20


@dataclass(frozen=True, slots=True)
class Purge:
    """What to delete: everything of this kind and scope that was over before that moment.

    ``own_rule`` is the rule of the scope's organization that says so, where it is one of its own.
    """

    kind: RetentionKind
    scope: RetentionScope
    before: datetime
    own_rule: timedelta | None = None

    @property
    def batch(self) -> int:
        """The most that one transaction deletes."""
        return BATCH if self.kind is RetentionKind.ENDED_RUNS else _ROW_BATCH

    def delete_some(self, connection: Connection, now: datetime, via: str) -> int:
        """Delete a batch; return how many: none once the organization has changed its rule."""
        organization_id = self.scope.organization_id
        if organization_id is not None and self.own_rule is not None:
            rule = get_own_rules(connection, organization_id, locks=True)[self.kind]
            if rule != self.own_rule:
                return 0
        if self.kind is RetentionKind.ENDED_RUNS:
            return _purge_runs(connection, self, now, via)
        if self.kind is RetentionKind.AUDIT:
            # A command says how many it deleted: it does not leave out those of a chain that a server is sealing.
            return _purge_audit(connection, self, waits=via == "cli")
        return delete_finished_messages(connection, self.before, _ROW_BATCH, self.scope)


class Retention:
    """Sweeps for what is over for longer than it is kept."""

    def __init__(self, database: Database, clock: Clock, rules: RetentionRules) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules

    async def sweep(self) -> int:
        """Delete some of what is due; return how many runs, entries and messages."""
        now = self._clock.now()
        # Reading first keeps an idle server from writing.
        due = await self._database.read(lambda connection: list(self._due(connection, now)))
        return sum([await self._delete(purge, now) for purge in due])

    def _due(self, connection: Connection, now: datetime) -> Iterator[Purge]:
        own = list_own_rules(connection)
        for kind in RetentionKind:
            kept = [(RetentionScope(without_own=kind), self._rules.of(kind))]
            kept += [(RetentionScope(organization), rules.of(kind)) for organization, rules in own]
            for scope, length in kept:
                if length is None:
                    continue
                own_rule = None if scope.organization_id is None else length
                purge = Purge(kind, scope, moment_ago(now, length), own_rule)
                if is_due(connection, kind, scope, purge.before):
                    yield purge

    async def _delete(self, purge: Purge, now: datetime) -> int:
        deleted = 0
        for _ in range(_MAX_BATCHES):
            batch = await self._database.write(lambda connection: purge.delete_some(connection, now, "retention"))
            deleted += batch
            if batch < purge.batch:
                break
        if deleted:
            _log.info("purged", what=purge.kind.value.removeprefix("keep_"), count=deleted)
        return deleted


def _purge_runs(connection: Connection, purge: Purge, now: datetime, via: str) -> int:
    """Delete a batch of runs, and note it in each organization's trail.

    Once there are none any more, sessions without runs follow.
    """
    found = Counter(delete_ended_runs(connection, purge.before, BATCH, purge.scope))
    if found.total() < BATCH:
        delete_empty_sessions(connection, purge.before, BATCH, purge.scope)
    add_entries(
        connection,
        [
            AuditEntry(
                organization_id=organization,
                at=now,
                action=AuditAction.RUNS_PURGED,
                via=via,
                details={"runs": count, "ended_before": purge.before.isoformat()},
            )
            for organization, count in sorted(found.items())
        ],
    )
    return found.total()


def _purge_audit(connection: Connection, purge: Purge, *, waits: bool) -> int:
    """Delete a batch of entries.

    The chain's head notes it. An entry about it would be due itself one day, and another one about that.
    """
    count = 0
    for organization_id in list_purgeable_chains(connection, purge.scope, purge.before):
        if count >= _ROW_BATCH:
            break
        head = lock_head(connection, organization_id, waits=waits)
        if head is not None:
            count += delete_oldest(connection, organization_id, head, purge.before, _ROW_BATCH - count)
    return count
