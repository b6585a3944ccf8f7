"""Delivers what webhooks are to hear: at least once, with growing delays where nobody listens."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from unpause.store.deliveries import (
    claim_delivery,
    delete_finished,
    has_finished,
    list_due,
    mark_delivered,
    mark_failed,
)
from unpause.store.engine.dialects import read_now
from unpause.tasks import VitalTask, background_tasks
from unpause.webhooks.fairness import Share, ShareRules, Shares

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.webhooks import Delivery, Sent
    from unpause.store.deliveries import Due
    from unpause.store.engine.database import Connection, Database
    from unpause.webhooks.service import MessageSender

_log = structlog.get_logger(__name__)

# So many that are due are looked at together: more than silent servers alone can fill.
_LOOKED_AT = 1000
# Each makes the question longer.
_MOST_OMITTED = 50
_CLEAN_EVERY = timedelta(minutes=10)
# A delay is this much shorter or longer by chance, so that what failed together does not come back together.
_JITTER = 0.25
# Doubling oftener than this leads nowhere but to numbers that are too large.
_MOST_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How often, how soon and how many at a time.

    ``timeout_seconds`` is what one attempt takes at most; ``shares`` say how many are under way for whom. Messages that
    are over are kept for ``keep``.
    """

    attempts: int
    timeout_seconds: float
    first_delay_seconds: float = 5.0
    longest_delay_seconds: float = 3600.0
    poll_seconds: float = 0.5
    shares: ShareRules = field(default_factory=ShareRules)
    keep: timedelta = timedelta(days=7)

    def delay_after(self, attempts: int, chance: float) -> timedelta:
        """Return how long to wait after so many failed attempts; ``chance`` is between 0 and 1."""
        doubled = self.first_delay_seconds * 2.0 ** min(attempts - 1, _MOST_DOUBLINGS)
        varied = 1 - _JITTER + 2 * _JITTER * chance
        return timedelta(seconds=min(doubled, self.longest_delay_seconds) * varied)


class DeliveryWorker:
    """Looks for messages that are due, in a database that other processes may look at too, and sends them."""

    def __init__(
        self,
        database: Database,
        sender: MessageSender,
        clock: Clock,
        rules: DeliveryRules,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._sender = sender
        self._clock = clock
        self._rules = rules
        self._chance = chance
        self._under_way: set[asyncio.Task[float | None]] = set()
        self._shares = Shares(rules.shares)
        self._freed = asyncio.Event()
        self._clean_at = clock.now()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Deliver during the block; at its end attempts that are under way are broken off, to be made again later."""
        async with background_tasks() as tasks:
            looking = VitalTask(tasks, self._look(tasks), "deliverer")
            try:
                yield
            finally:
                looking.stop()
                for task in self._under_way:
                    task.cancel()

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._freed.clear()
            more = False
            try:
                more = await self._start_due(tasks)
                await self._clean()
            except Exception:  # noqa: BLE001 - a database that is away for a while must not end the delivering
                _log.exception("webhooks could not be looked for; it is tried again")
            if more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), self._rules.poll_seconds)
            else:
                await asyncio.sleep(self._rules.poll_seconds)

    async def _start_due(self, tasks: asyncio.TaskGroup) -> bool:
        """Begin as many attempts as there is room for; return whether more may be due."""
        shares = self._shares
        if shares.room <= 0:
            return True
        servers, organizations = shares.full_servers, shares.full_organizations

        def find_due(connection: Connection) -> tuple[datetime, list[Due]]:
            now = self._now(connection)
            return now, list_due(connection, now, _LOOKED_AT, servers[:_MOST_OMITTED], organizations)

        # Reading first keeps an idle server from writing.
        now, due = await self._database.read(find_due)
        chosen = shares.choose(due)
        if chosen:
            for delivery in await self._database.write(lambda connection: self._claim(connection, chosen, now)):
                self._start(tasks, delivery)
        return len(chosen) < len(due) or len(due) == _LOOKED_AT

    def _now(self, connection: Connection) -> datetime:
        # All processes go by one clock: else one that is ahead would send what another one is sending.
        return read_now(connection, self._clock.now())

    def _claim(self, connection: Connection, chosen: list[Due], now: datetime) -> list[Delivery]:
        claimed = (claim_delivery(connection, due, self._lost_at(due, now)) for due in chosen)
        return [delivery for delivery in claimed if delivery is not None]

    def _lost_at(self, due: Due, now: datetime) -> datetime:
        """Return when an attempt of which nothing was heard is taken for failed."""
        longest = timedelta(seconds=1.5 * self._rules.timeout_seconds)
        return now + longest + self._rules.delay_after(due.attempts + 1, self._chance())

    def _start(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> None:
        share = self._shares.begin(delivery)
        task = tasks.create_task(self._deliver(delivery), name=f"deliver {delivery.id}")
        self._under_way.add(task)
        # Not in the task itself: one that is cancelled before its first step never gets there.
        task.add_done_callback(partial(self._ended, share))

    def _ended(self, share: Share, task: asyncio.Task[float | None]) -> None:
        self._under_way.discard(task)
        share.end(None if task.cancelled() or task.exception() is not None else task.result())
        self._freed.set()

    async def _deliver(self, delivery: Delivery) -> float | None:
        """Make one attempt; return how many seconds the server took, None where that is not known."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        seconds = None
        try:
            sent = await self._sender.send_message(delivery)
            seconds = loop.time() - began
            await self._note(delivery, sent)
        except Exception:  # noqa: BLE001 - one message's trouble must not stop the others; it is due again by its claim
            _log.exception("a webhook could not be delivered", message_id=delivery.id, attempt=delivery.attempts)
        return seconds

    async def _note(self, delivery: Delivery, sent: Sent) -> None:
        reason = sent.error
        if reason is None:
            await self._database.write(lambda connection: mark_delivered(connection, delivery, self._now(connection)))
            return
        is_over = delivery.attempts >= self._rules.attempts
        delay = None if is_over else self._rules.delay_after(delivery.attempts, self._chance())

        def unit(connection: Connection) -> datetime | None:
            again_at = None if delay is None else self._now(connection) + delay
            mark_failed(connection, delivery, reason, again_at)
            return again_at

        again_at = await self._database.write(unit)
        _log.warning(
            "a webhook did not take its message",
            message_id=delivery.id,
            attempt=delivery.attempts,
            reason=reason,
            again_at=again_at.isoformat() if again_at else None,
        )

    async def _clean(self) -> None:
        now = self._clock.now()
        if now < self._clean_at:
            return
        self._clean_at = now + _CLEAN_EVERY
        before = await self._database.read(self._now) - self._rules.keep
        if await self._database.read(lambda connection: has_finished(connection, before)):
            await self._database.write(lambda connection: delete_finished(connection, before))
