"""The bus between processes that share a PostgreSQL: notifications, and a poll underneath for those that get lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from pydantic_core import from_json, to_json

from unpause.errors import UnpauseError
from unpause.store.engine.notifications import LONGEST_PAYLOAD, count_listeners, listen, notify
from unpause.store.events import list_events
from unpause.store.run_queue import last_sequences
from unpause.streaming.bus import InProcessBus, Signal
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

    from unpause.domain.events import Event
    from unpause.domain.runs import RunView
    from unpause.store.engine.database import URL, Database
    from unpause.streaming.bus import SignalHandler, Subscription

_log = structlog.get_logger(__name__)

_GROWN = "grown"
_REQUIREMENTS = "requirements"
# With the organization in place of the run.
_DELETED = "deleted"
# That this process listens: comes back to itself, and each of the others answers the first one.
_PROBE = "probe"
_NO_POOLER = "LISTEN needs a connection of its own: where database_url is a pooler's, set listener_url to PostgreSQL's"
_PAGE = 500
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0
# Run keys have up to 19 digits, and there are commas.
_KEYS_AT_ONCE = LONGEST_PAYLOAD // 24
# More than are announced between the moment when another process listens and that when it is heard of.
_MOST_KEPT = 4_000


class PostgresBus(InProcessBus):
    """Hands committed events over within the process, and notifies the other processes.

    Announcements made while one notification is under way go with the next. While no other process listens the newest
    are kept: one that listens says so, and each that did not know of it answers, with what it kept. A follower of a
    run that another process executes gets its events from the log, read once for all followers of that run in this
    process. A lost notification costs one poll interval.
    """

    def __init__(self, database: Database, listener_url: URL, every_seconds: float) -> None:
        super().__init__()
        self._database = database
        self._listener_url = listener_url
        self._every_seconds = every_seconds
        self._node = uuid4().hex
        # Whether the process's own notifications come back to it; None while that is unknown.
        self._receives_own: bool | None = None
        # The other processes that are known to listen.
        self._others: set[str] = set()
        # Whether others listened when this process began to; those of an older release do not answer.
        self._was_joined = True
        self._handlers: list[SignalHandler] = []
        # Announcements to send, as (kind, run).
        self._pending: set[tuple[str, int]] = set()
        self._has_pending = asyncio.Event()
        # The last event of each followed run that was handed over here.
        self._handed_over: dict[int, int] = {}
        self._is_followed = asyncio.Event()
        self._grown: set[int] = set()
        self._has_grown = asyncio.Event()

    @property
    def is_notified(self) -> bool:
        """Whether the process's own notifications come back to it."""
        return self._receives_own is True

    def publish(self, run_key: int, events: Sequence[Event], end_view: RunView | None = None) -> None:
        """Hand the batch to the followers in this process, and announce it to the others."""
        if not events:
            return
        super().publish(run_key, events, end_view)
        if run_key in self._subscriptions:
            self._handed_over[run_key] = max(events[-1].sequence, self._handed_over.get(run_key, 0))
        self._announce(_GROWN, run_key)

    def signal(self, signal: Signal, run_key: int) -> None:
        """Send the signal to the other processes."""
        self._announce(signal.value, run_key)

    def on_signal(self, handler: SignalHandler) -> None:
        """Call ``handler`` for each signal of another process from now on."""
        self._handlers.append(handler)

    def requirements_changed(self, run_key: int) -> None:
        """Call the handlers of this process, and those of the others: with the notification of the run's events."""
        super().requirements_changed(run_key)
        self._announce(_REQUIREMENTS, run_key)

    def requests_deleted(self, organization_id: int) -> None:
        """Call the handlers of this process, and those of the others."""
        super().requests_deleted(organization_id)
        self._announce(_DELETED, organization_id)

    @contextmanager
    def subscribed(self, run_key: int, *, is_live: bool = True) -> Iterator[Subscription]:
        """Subscribe to a run during the block."""
        with super().subscribed(run_key, is_live=is_live) as subscription:
            self._is_followed.set()
            yield subscription

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, notify and poll during the block."""
        async with background_tasks() as tasks:
            parts = [
                VitalTask(tasks, self._listen(), "bus listener"),
                VitalTask(tasks, _always(self._notify), "bus notifier"),
                VitalTask(tasks, _always(self._read), "bus reader"),
                VitalTask(tasks, _always(self._poll), "bus poll"),
            ]
            try:
                yield
            finally:
                await self._send_pending()
                for part in parts:
                    part.stop()

    def _announce(self, kind: str, run_key: int) -> None:
        # A process that does not hear itself would not hear others, either.
        is_alone = self._receives_own and not self._others and not self._was_joined
        if is_alone and len(self._pending) >= _MOST_KEPT:
            self._pending.clear()
        self._pending.add((kind, run_key))
        if kind == _PROBE or not is_alone:
            self._has_pending.set()

    async def _notify(self) -> None:
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            await self._send_pending()

    async def _send_pending(self) -> None:
        pending, self._pending = self._pending, set()
        for payload in self._payloads(sorted(pending)):
            try:
                await self._database.execute(partial(notify, payload=payload))
            except UnpauseError:
                # The database is unavailable or the process stops: the others poll.
                return

    def _payloads(self, pending: list[tuple[str, int]]) -> Iterator[str]:
        for first in range(0, len(pending), _KEYS_AT_ONCE):
            run_keys: dict[str, list[int]] = {}
            for kind, run_key in pending[first : first + _KEYS_AT_ONCE]:
                run_keys.setdefault(kind, []).append(run_key)
            yield to_json({"from": self._node, **run_keys}).decode()

    async def _listen(self) -> None:
        delay, is_connected = _FIRST_RETRY_SECONDS, True
        while True:
            silences = 0
            try:
                async for payload in listen(self._listener_url, self._database.silent_seconds):
                    if payload is not None:
                        self._receive(payload)
                        continue
                    if silences == 0:
                        delay, is_connected = _FIRST_RETRY_SECONDS, True
                        self._catch_up()
                    self._probe(silences)
                    if silences == 0:
                        await self._count_others()
                    silences += 1
            except Exception as error:  # noqa: BLE001 - the boundary around the listener: reconnect after any error
                # Once for an outage, and not at each try to connect.
                log = _log.warning if is_connected else _log.debug
                log("bus listener disconnected", error=type(error).__name__)
            is_connected = False
            # Known again once the next connection has received a notification.
            self._receives_own = None if self._receives_own else self._receives_own
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    async def _count_others(self) -> None:
        """Find out whether others listen already; who comes later says so."""
        self._was_joined = True
        with suppress(UnpauseError):
            # Its own connection is among them, unless a pooler has renamed it.
            self._was_joined = await self._database.query(count_listeners) != 1

    def _probe(self, silences: int) -> None:
        """Find out whether notifications arrive, unless that is known.

        The first probe may have been lost with a connection of before an outage.
        """
        if self._receives_own is None and silences > 1:
            self._receives_own = False
            _log.warning("notifications do not arrive: polling only", hint=_NO_POOLER)
        if not self._receives_own:
            self._announce(_PROBE, 0)

    def _catch_up(self) -> None:
        """Read the log of every followed run: notifications may have been missed without a connection."""
        self._look_at(self._subscriptions)
        self._call_handlers(Signal.READY, None)
        self._call_requirements_handlers(None)
        self._call_deletion_handlers(None)

    def _receive(self, payload: str) -> None:
        announced = from_json(payload)
        sender = announced.get("from")
        if sender == self._node:
            self._receives_own = True
            return
        if sender not in self._others:
            self._others.add(sender)
            self._announce(_PROBE, 0)
        self._look_at(announced.get(_GROWN, ()))
        for run_key in announced.get(_REQUIREMENTS, ()):
            self._call_requirements_handlers(run_key)
        for organization_id in announced.get(_DELETED, ()):
            self._call_deletion_handlers(organization_id)
        for signal in Signal:
            for run_key in announced.get(signal.value, ()):
                self._call_handlers(signal, run_key)

    def _call_handlers(self, signal: Signal, run_key: int | None) -> None:
        for handler in self._handlers:
            handler(signal, run_key)

    def _look_at(self, run_keys: Iterable[int]) -> None:
        followed = [run_key for run_key in run_keys if run_key in self._subscriptions]
        if followed:
            self._grown.update(followed)
            self._has_grown.set()

    async def _read(self) -> None:
        """Read what other processes wrote about followed runs, and hand it over."""
        while True:
            await self._has_grown.wait()
            self._has_grown.clear()
            grown, self._grown = self._grown, set()
            for run_key in grown:
                await self._hand_over(run_key)

    async def _hand_over(self, run_key: int) -> None:
        last = self._handed_over.get(run_key)
        if last is None:
            # How far its followers are is unknown here.
            self.wake(run_key)
            return
        try:
            events = await self._database.read(lambda connection: list_events(connection, run_key, last, _PAGE))
        except UnpauseError:
            return
        super().publish(run_key, events)
        if events and run_key in self._subscriptions:
            self._handed_over[run_key] = max(events[-1].sequence, self._handed_over.get(run_key, 0))
        if len(events) == _PAGE:
            self._look_at((run_key,))

    async def _poll(self) -> None:
        while True:
            await self._is_followed.wait()
            await asyncio.sleep(self._every_seconds)
            for run_key in self._handed_over.keys() - self._subscriptions.keys():
                del self._handed_over[run_key]
            followed = self.followed()
            if not followed:
                self._is_followed.clear()
                continue
            try:
                last = await self._database.read(partial(last_sequences, run_keys=followed))
            except UnpauseError:
                continue
            for run_key in followed:
                # None where it was deleted.
                sequence = last.get(run_key)
                if sequence is None:
                    self.wake(run_key)
                elif run_key not in self._handed_over:
                    self.wake(run_key)
                    self._handed_over[run_key] = sequence
                elif sequence > self._handed_over[run_key]:
                    self._look_at((run_key,))


async def _always(work: Callable[[], Awaitable[None]]) -> None:
    """Work until cancelled; an error costs one poll interval, not the task."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - the boundary around the bus's tasks: streams must go on
            _log.exception("bus task failed")
            await asyncio.sleep(_FIRST_RETRY_SECONDS)
