"""The state of an organization's runs at a glance, read at most once a second."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from unpause.domain.overview import Overview, Worker
from unpause.domain.runs import RunStatus
from unpause.store.engine.dialects import is_shared, read_now
from unpause.store.overview import (
    HOURS,
    count_unfinished,
    find_oldest_waiting,
    list_decided,
    list_failing_webhooks,
    list_hours,
    list_workers,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.overview import DecidedRequirement, Hour
    from unpause.domain.principal import Principal, Visibility
    from unpause.store.engine.database import Connection, Database

_SECONDS = 1.0
_MAX_KEPT = 1000
_DAY = timedelta(hours=HOURS)


class _Key(NamedTuple):
    visibility: Visibility
    for_admin: bool


@dataclass(slots=True)
class _Kept:
    """The newest overview of one kind of caller; the lock lets one request at a time read it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    overview: Overview | None = None
    until: float = 0.0


class OverviewService:
    """Reads overviews. ``own`` is this process as a worker, for a database that no other process shares."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        own: Callable[[], Worker | None],
        patience: timedelta,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._own = own
        self._patience = patience
        self._time = time
        self._kept: dict[_Key, _Kept] = {}

    async def get_overview(self, principal: Principal) -> Overview:
        """Return what the principal may see, at most a second old."""
        if len(self._kept) > _MAX_KEPT:
            self._kept.clear()
        key = _Key(principal.visibility, principal.is_admin)
        kept = self._kept.setdefault(key, _Kept())
        async with kept.lock:
            if kept.overview is None or self._time() >= kept.until:
                kept.overview = await self._database.read(lambda connection: self._read(connection, key))
                kept.until = self._time() + _SECONDS
            return kept.overview

    def _read(self, connection: Connection, key: _Key) -> Overview:
        now = read_now(connection, self._clock.now())
        visibility, since = key.visibility, now - _DAY
        decided = list_decided(connection, visibility, since)
        hours = list_hours(connection, visibility, now)
        admin = key.for_admin
        return Overview(
            at=now,
            statuses={**_ended_in(hours), **count_unfinished(connection, visibility)},
            hours=_with_decisions(hours, decided),
            waits=sorted(_waits(decided)),
            decided_today=sum(not each.by_server and each.at.date() == now.date() for each in decided),
            oldest_waiting=find_oldest_waiting(connection, visibility),
            workers=self._workers(connection, now) if admin else None,
            webhooks=list_failing_webhooks(connection, visibility.organization_id, since) if admin else None,
        )

    def _workers(self, connection: Connection, now: datetime) -> Sequence[Worker]:
        if is_shared(connection):
            return list_workers(connection, now, self._patience)
        own = self._own()
        return [] if own is None else [replace(own, seen_at=now)]


def _ended_in(hours: Sequence[Hour]) -> dict[RunStatus, int]:
    counts = Counter[RunStatus]()
    for hour in hours:
        counts.update({status: count for status, count in hour.runs.items() if status.is_final})
    return dict(counts)


def _with_decisions(hours: Sequence[Hour], decided: Sequence[DecidedRequirement]) -> list[Hour]:
    counts = Counter(each.at.replace(minute=0, second=0, microsecond=0) for each in decided if not each.by_server)
    return [replace(hour, decided=counts[hour.at]) for hour in hours]


def _waits(decided: Sequence[DecidedRequirement]) -> list[float]:
    return [
        max(0.0, (each.at - each.since).total_seconds())
        for each in decided
        if each.since is not None and not each.by_server
    ]
