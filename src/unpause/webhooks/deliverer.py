"""Delivers webhook messages at least once, with growing delays after failures."""

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
from unpause.webhooks.slots import DeliverySlots, Slot, SlotRules

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.webhooks import Delivery, DeliveryResult
    from unpause.store.deliveries import Due
    from unpause.store.engine.database import Connection, Database
    from unpause.webhooks.sender import MessageSender

_log = structlog.get_logger(__name__)

# Due messages in one query: more than silent servers alone can fill.
_BATCH_SIZE = 1000
# Each makes the query longer.
_MAX_EXCLUDED = 50
_CLEAN_EVERY = timedelta(minutes=10)
# A delay varies at random by this part, so that messages that failed together are not retried together.
_JITTER = 0.25
# More doublings only lead to numbers that are too large.
_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How often, how soon and how many at a time.

    ``timeout_seconds`` limits one attempt; ``slots`` limit concurrent attempts. Finished messages are kept for
    ``keep``.
    """

    attempts: int
    timeout_seconds: float
    first_delay_seconds: float = 5.0
    longest_delay_seconds: float = 3600.0
    poll_seconds: float = 0.5
    slots: SlotRules = field(default_factory=SlotRules)
    keep: timedelta = timedelta(days=7)

    def delay_after(self, attempts: int, chance: float) -> timedelta:
        """Return how long to wait after this many failed attempts; ``chance`` is between 0 and 1."""
        doubled = self.first_delay_seconds * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS)
        varied = 1 - _JITTER + 2 * _JITTER * chance
        return timedelta(seconds=min(doubled, self.longest_delay_seconds) * varied)


class DeliveryWorker:
    """Polls the database for due messages and sends them; other processes may do the same."""

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
        self._attempts: set[asyncio.Task[float | None]] = set()
        self._slots = DeliverySlots(rules.slots)
        self._freed = asyncio.Event()
        self._clean_at = clock.now()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Deliver during the block; at its end running attempts are cancelled, and retried later."""
        async with background_tasks() as tasks:
            polling = VitalTask(tasks, self._poll(tasks), "deliverer")
            try:
                yield
            finally:
                polling.stop()
                for task in self._attempts:
                    task.cancel()

    async def _poll(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._freed.clear()
            more = False
            try:
                more = await self._start_due(tasks)
                await self._clean()
            except Exception:  # noqa: BLE001 - the boundary around a poll: the next one tries again
                _log.exception("webhook polling failed")
            if more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._freed.wait(), self._rules.poll_seconds)
            else:
                await asyncio.sleep(self._rules.poll_seconds)

    async def _start_due(self, tasks: asyncio.TaskGroup) -> bool:
        """Start as many attempts as there are free slots; return whether more may be due."""
        slots = self._slots
        if slots.room <= 0:
            return True
        servers, organizations = slots.full_servers, slots.full_organizations

        def find_due(connection: Connection) -> tuple[datetime, list[Due]]:
            now = self._now(connection)
            return now, list_due(connection, now, _BATCH_SIZE, servers[:_MAX_EXCLUDED], organizations)

        # Reading first keeps an idle server from writing.
        now, due = await self._database.read(find_due)
        chosen = slots.choose(due)
        if chosen:
            for delivery in await self._database.write(lambda connection: self._claim(connection, chosen, now)):
                self._start(tasks, delivery)
        return len(chosen) < len(due) or len(due) == _BATCH_SIZE

    def _now(self, connection: Connection) -> datetime:
        # One clock for all processes: one whose own is ahead would send what another is sending.
        return read_now(connection, self._clock.now())

    def _claim(self, connection: Connection, chosen: list[Due], now: datetime) -> list[Delivery]:
        claimed = (claim_delivery(connection, due, self._retry_lost_at(due, now)) for due in chosen)
        return [delivery for delivery in claimed if delivery is not None]

    def _retry_lost_at(self, due: Due, now: datetime) -> datetime:
        """Return when to retry an attempt whose process died."""
        longest = timedelta(seconds=1.5 * self._rules.timeout_seconds)
        return now + longest + self._rules.delay_after(due.attempts + 1, self._chance())

    def _start(self, tasks: asyncio.TaskGroup, delivery: Delivery) -> None:
        slot = self._slots.begin(delivery)
        task = tasks.create_task(self._deliver(delivery), name=f"deliver {delivery.id}")
        self._attempts.add(task)
        # Not in the task itself: it may be cancelled before its first step.
        task.add_done_callback(partial(self._finish, slot))

    def _finish(self, slot: Slot, task: asyncio.Task[float | None]) -> None:
        self._attempts.discard(task)
        slot.end(None if task.cancelled() or task.exception() is not None else task.result())
        self._freed.set()

    async def _deliver(self, delivery: Delivery) -> float | None:
        """Make one attempt; return the seconds that the server took, None where they are unknown."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        seconds = None
        try:
            sent = await self._sender.send_message(delivery)
            seconds = loop.time() - began
            await self._record(delivery, sent)
        except Exception:  # noqa: BLE001 - the boundary around a delivery: its claim has set the next attempt
            _log.exception("webhook delivery crashed", message_id=delivery.id, attempt=delivery.attempts)
        return seconds

    async def _record(self, delivery: Delivery, sent: DeliveryResult) -> None:
        reason = sent.error
        if reason is None:
            await self._database.write(lambda connection: mark_delivered(connection, delivery, self._now(connection)))
            return
        is_last = delivery.attempts >= self._rules.attempts
        delay = None if is_last else self._rules.delay_after(delivery.attempts, self._chance())

        def unit(connection: Connection) -> datetime | None:
            retry_at = None if delay is None else self._now(connection) + delay
            mark_failed(connection, delivery, reason, retry_at)
            return retry_at

        retry_at = await self._database.write(unit)
        _log.warning(
            "webhook delivery failed",
            message_id=delivery.id,
            attempt=delivery.attempts,
            reason=reason,
            retry_at=retry_at.isoformat() if retry_at else None,
        )

    async def _clean(self) -> None:
        now = self._clock.now()
        if now < self._clean_at:
            return
        self._clean_at = now + _CLEAN_EVERY
        before = await self._database.read(self._now) - self._rules.keep
        if await self._database.read(lambda connection: has_finished(connection, before)):
            await self._database.write(lambda connection: delete_finished(connection, before))
