"""Delivers messages at least once, with growing delays after failures."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import structlog

from unpause.delivery.left import LeftToOthers
from unpause.delivery.slots import Addressed, DeliverySlot, DeliverySlots, SlotRules
from unpause.errors import DatabaseBusy, DatabaseUnavailable, UnpauseError
from unpause.store.engine.dialects import read_now
from unpause.tasks import VitalTask, background_tasks
from unpause.telemetry.metrics import DELIVERIES
from unpause.telemetry.tracing import is_tracing, span_below

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.changes import Outbox
    from unpause.domain.webhooks import DeliveryResult
    from unpause.store.engine.database import Connection, Database

_log = structlog.get_logger(__name__)

# Due messages in one query: more than silent servers alone can fill.
_BATCH_SIZE = 1000
# Each makes the query longer.
_MAX_EXCLUDED = 50
# A delay varies at random by this part, so that messages that failed together are not retried together.
_JITTER = 0.25
# More doublings only lead to numbers that are too large.
_MAX_DOUBLINGS = 30
# After a query that found something due, or failed.
_AGAIN_SECONDS = 1.0
# Between two queries, so that messages that come one after another share one; and while messages wait for a slot.
_COLLECT_SECONDS = 0.1
_COLLECT_SECONDS_IF_FULL = 0.01


@dataclass(frozen=True, slots=True)
class DeliveryRules:
    """How often, how soon and how many at a time.

    ``timeout_seconds`` limits one attempt; ``slots`` limit concurrent attempts. ``poll_seconds`` is how often to look
    for messages of which this process does not know, such as those of a process that died.
    """

    attempts: int
    timeout_seconds: float
    first_delay_seconds: float = 5.0
    longest_delay_seconds: float = 3600.0
    poll_seconds: float = 5.0
    slots: SlotRules = field(default_factory=SlotRules)

    def delay_after(self, attempts: int, chance: float) -> timedelta:
        """Return how long to wait after this many failed attempts; ``chance`` is between 0 and 1."""
        doubled = self.first_delay_seconds * 2.0 ** min(attempts - 1, _MAX_DOUBLINGS)
        varied = 1 - _JITTER + 2 * _JITTER * chance
        return timedelta(seconds=min(doubled, self.longest_delay_seconds) * varied)


class DueMessage(Addressed, Protocol):
    """What is due: how often it was attempted, this one not included."""

    @property
    def key(self) -> str:
        """Its name among all that is due."""
        ...

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        ...


class StoredMessage(Addressed, Protocol):
    """What one attempt sends; ``attempts`` includes it."""

    @property
    def id(self) -> str:
        """Its name in the log."""
        ...

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        ...


D = TypeVar("D", bound=DueMessage)
M = TypeVar("M", bound=StoredMessage)


class DeliveryQueue(Protocol[D, M]):
    """Stored messages of one kind, and how to send one. Several processes may work on it."""

    @property
    def outbox(self) -> Outbox:
        """Where they are stored, which is also what the log calls them."""
        ...

    def until_due(self, connection: Connection, now: datetime) -> timedelta | None:
        """Return how long until anything is due, by a single query; None without any. ``now`` is for SQLite."""
        ...

    def list_due(
        self,
        connection: Connection,
        now: datetime,
        limit: int,
        servers: Sequence[str],
        organizations: Sequence[int],
    ) -> list[D]:
        """Return what is due, the longest due first, but for these servers and organizations."""
        ...

    def can_decrypt(self, due: D) -> bool:
        """Whether this process has the keys for what an attempt needs."""
        ...

    def put_off(self, connection: Connection, due: D, now: datetime, retry_at: datetime) -> None:
        """Have it be due at ``retry_at``, and write that its secrets cannot be decrypted. It has had no attempt."""
        ...

    def claim(self, connection: Connection, due: D, now: datetime, retry_at: datetime) -> M | None:
        """Count an attempt and return what it sends; None where another worker was faster.

        It is due again at ``retry_at``, in case this attempt never reports its result.
        """
        ...

    def find_trace(self, connection: Connection, message: M) -> str | None:
        """Return the trace of the message's run, as it is stored; None for a message of no run, or of several."""
        ...

    async def send(self, message: M) -> DeliveryResult:
        """Send it once and return the result; raise nothing for what others cause."""
        ...

    def mark_delivered(self, connection: Connection, message: M, now: datetime) -> None:
        """Write that it has arrived."""
        ...

    def mark_failed(
        self, connection: Connection, message: M, error: str, retry_at: datetime, max_attempts: int
    ) -> datetime | None:
        """Write why the attempt failed; return when the next one is due, None after the last of ``max_attempts``."""
        ...


class DeliveryWorker(Generic[D, M]):
    """Sends messages when they are due; other processes may do the same.

    It looks for them after each commit of this process that has stored some, when the next one is due, and now and
    then for those that other processes left.
    """

    def __init__(
        self,
        database: Database,
        queue: DeliveryQueue[D, M],
        clock: Clock,
        rules: DeliveryRules,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._database = database
        self._queue = queue
        self._clock = clock
        self._rules = rules
        self._chance = chance
        self._attempts: set[asyncio.Task[float | None]] = set()
        self._slots = DeliverySlots(rules.slots)
        self._left = LeftToOthers(2 * rules.poll_seconds)
        self._wakeup = asyncio.Event()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Deliver during the block; at its end running attempts are cancelled, and retried later."""
        async with background_tasks() as tasks:
            polling = VitalTask(tasks, self._poll(tasks), f"{self._queue.outbox} deliverer")
            try:
                with self._database.waking(self.look_soon, self._queue.outbox):
                    yield
            finally:
                polling.stop()
                for task in self._attempts:
                    task.cancel()

    def look_soon(self) -> None:
        """Look for due messages without waiting for the next poll."""
        self._wakeup.set()

    async def _poll(self, tasks: asyncio.TaskGroup) -> None:
        loop, longest = asyncio.get_running_loop(), self._rules.poll_seconds
        while True:
            self._wakeup.clear()
            began, rest, more = loop.time(), _AGAIN_SECONDS, False
            try:
                rest, more = await self._look(tasks)
            except (DatabaseUnavailable, DatabaseBusy) as error:
                # The outage is logged where it is noticed.
                _log.debug(f"{self._queue.outbox} polling failed", reason=error.message)
            except Exception:  # noqa: BLE001 - the boundary around a poll: the next one tries again
                _log.exception(f"{self._queue.outbox} polling failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(min(rest, longest)):
                    await self._wakeup.wait()
            earliest = began + min(_COLLECT_SECONDS_IF_FULL if more else _COLLECT_SECONDS, longest)
            await asyncio.sleep(earliest - loop.time())

    async def _look(self, tasks: asyncio.TaskGroup) -> tuple[float, bool]:
        """Start what is due; return in how many seconds to look again at the latest, and whether more may be due."""
        if self._slots.room <= 0:
            return self._rules.poll_seconds, True
        left = await self._database.query(lambda connection: self._queue.until_due(connection, self._clock.now()))
        if left is None:
            return self._rules.poll_seconds, False
        seconds = left.total_seconds()
        return (seconds, False) if seconds > 0 else (_AGAIN_SECONDS, await self._start_due(tasks))

    async def _start_due(self, tasks: asyncio.TaskGroup) -> bool:
        """Start as many attempts as there are free slots; return whether more may be due."""
        slots = self._slots
        servers, organizations = slots.full_servers, slots.full_organizations

        def find_due(connection: Connection) -> tuple[datetime, list[D]]:
            now = self._now(connection)
            return now, self._queue.list_due(connection, now, _BATCH_SIZE, servers[:_MAX_EXCLUDED], organizations)

        # Reading first keeps an idle server from writing.
        now, found = await self._database.read(find_due)
        at = asyncio.get_running_loop().time()
        due = [each for each in found if not self._left.is_left(each.key, at)]
        chosen = slots.choose(due)
        unreadable = [each for each in chosen if not self._queue.can_decrypt(each)]
        for each in unreadable:
            chosen.remove(each)
            await self._leave(each, now, at)
        if chosen:
            for message in await self._database.write(lambda connection: self._claim(connection, chosen, now)):
                self._start(tasks, message)
        return len(chosen) + len(unreadable) < len(due) or len(found) == _BATCH_SIZE

    async def _leave(self, due: D, now: datetime, at: float) -> None:
        """Leave a message to processes with the right keys; put it off where none of them has sent it."""
        times = self._left.leave(due.key, at)
        if times is None:
            return
        delay = self._rules.delay_after(times, self._chance())
        retry_at = now + delay
        await self._database.write(lambda connection: self._queue.put_off(connection, due, now, retry_at))
        self._left.put_off(due.key, delay.total_seconds())
        DELIVERIES.labels(self._queue.outbox, "undecryptable").inc()
        _log.warning(
            f"{self._queue.outbox} cannot be decrypted",
            message_id=due.key,
            retry_at=retry_at.isoformat(),
            hint="no process has the key that it was encrypted with: add that to UNPAUSE_ENCRYPTION_KEY",
        )

    def _now(self, connection: Connection) -> datetime:
        # One clock for all processes: one whose own is ahead would send what another is sending.
        return read_now(connection, self._clock.now())

    def _claim(self, connection: Connection, chosen: list[D], now: datetime) -> list[M]:
        claimed = (self._queue.claim(connection, due, now, self._retry_lost_at(due, now)) for due in chosen)
        return [message for message in claimed if message is not None]

    def _retry_lost_at(self, due: D, now: datetime) -> datetime:
        """Return when to retry an attempt whose process died."""
        longest = timedelta(seconds=1.5 * self._rules.timeout_seconds)
        return now + longest + self._rules.delay_after(due.attempts + 1, self._chance())

    def _start(self, tasks: asyncio.TaskGroup, message: M) -> None:
        slot = self._slots.begin(message)
        task = tasks.create_task(self._deliver(message), name=f"deliver {message.id}")
        self._attempts.add(task)
        # Not in the task itself: it may be cancelled before its first step.
        task.add_done_callback(partial(self._finish, slot))

    def _finish(self, slot: DeliverySlot, task: asyncio.Task[float | None]) -> None:
        self._attempts.discard(task)
        slot.end(None if task.cancelled() or task.exception() is not None else task.result())
        # Its slot is free, or it has to be retried.
        self.look_soon()

    async def _deliver(self, message: M) -> float | None:
        """Make one attempt; return the seconds that the server took, None where they are unknown."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        seconds = None
        try:
            trace = await self._find_trace(message) if is_tracing() else None
            with span_below(trace, f"deliver {self._queue.outbox}", message_id=message.id, attempt=message.attempts):
                sent = await self._queue.send(message)
            seconds = loop.time() - began
            await self._record(message, sent)
        except Exception:  # noqa: BLE001 - the boundary around a delivery: its claim has set the next attempt
            _log.exception(f"{self._queue.outbox} delivery crashed", message_id=message.id, attempt=message.attempts)
        return seconds

    async def _find_trace(self, message: M) -> str | None:
        try:
            return await self._database.read(lambda connection: self._queue.find_trace(connection, message))
        except UnpauseError:
            # A message is worth more than its place in a trace.
            return None

    async def _record(self, message: M, sent: DeliveryResult) -> None:
        queue, reason = self._queue, sent.error
        if reason is None:
            await self._database.write(
                lambda connection: queue.mark_delivered(connection, message, self._now(connection))
            )
            DELIVERIES.labels(queue.outbox, "delivered").inc()
            return
        delay = self._rules.delay_after(message.attempts, self._chance())

        def unit(connection: Connection) -> datetime | None:
            retry_at = self._now(connection) + delay
            return queue.mark_failed(connection, message, reason, retry_at, self._rules.attempts)

        retry_at = await self._database.write(unit)
        DELIVERIES.labels(queue.outbox, "given_up" if retry_at is None else "failed").inc()
        _log.warning(
            f"{queue.outbox} delivery failed",
            message_id=message.id,
            attempt=message.attempts,
            reason=reason,
            retry_at=retry_at.isoformat() if retry_at else None,
        )
