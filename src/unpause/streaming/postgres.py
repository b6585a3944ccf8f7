"""The bus between processes that share a PostgreSQL: notifications, and a poll underneath for those that get lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog
from pydantic_core import from_json, to_json

from unpause.errors import UnpauseError
from unpause.store.engine.notifications import LONGEST_PAYLOAD, listen, notify
from unpause.store.events import list_events
from unpause.store.run_queue import last_sequences
from unpause.streaming.bus import InProcessBus, Signal
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence

    from unpause.domain.events import Event
    from unpause.store.engine.database import URL, Database
    from unpause.streaming.bus import SignalHandler

_log = structlog.get_logger(__name__)

_GROWN = "grown"
_PAGE = 500
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 5.0
# Run keys have up to 19 digits, and there are commas.
_KEYS_AT_ONCE = LONGEST_PAYLOAD // 24


class PostgresBus(InProcessBus):
    """Hands committed events over within the process, and tells the others that there are some.

    All that happens while one notification is on its way goes with the next. A follower of a run that is executed
    elsewhere gets the events from the log, read once for all followers of that run in this process. A notification
    that is lost costs one poll interval.
    """

    def __init__(self, database: Database, listener_url: URL, every_seconds: float) -> None:
        super().__init__()
        self._database = database
        self._listener_url = listener_url
        self._every_seconds = every_seconds
        self._node = uuid4().hex
        self._hearers: list[SignalHandler] = []
        # What is to be said, as (what, run).
        self._unsaid: set[tuple[str, int]] = set()
        self._something_to_say = asyncio.Event()
        # How far each followed run's log was handed over here.
        self._seen: dict[int, int] = {}
        self._grown: set[int] = set()
        self._something_grew = asyncio.Event()

    def publish(self, run_key: int, events: Sequence[Event]) -> None:
        """Hand the batch to everyone here who follows the run, and tell the others."""
        if not events:
            return
        super().publish(run_key, events)
        if run_key in self._subscriptions:
            self._seen[run_key] = max(events[-1].sequence, self._seen.get(run_key, 0))
        self._say(_GROWN, run_key)

    def signal(self, signal: Signal, run_key: int) -> None:
        """Tell the other processes."""
        self._say(signal.value, run_key)

    def hear(self, hearer: SignalHandler) -> None:
        """Have signals of other processes told to ``hearer`` from now on."""
        self._hearers.append(hearer)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen, speak and poll during the block."""
        async with background_tasks() as tasks:
            parts = [
                VitalTask(tasks, self._listen(), "bus listener"),
                VitalTask(tasks, _always(self._speak), "bus speaker"),
                VitalTask(tasks, _always(self._read), "bus reader"),
                VitalTask(tasks, _always(self._poll), "bus poll"),
            ]
            try:
                yield
            finally:
                await self._say_all()
                for part in parts:
                    part.stop()

    def _say(self, what: str, run_key: int) -> None:
        self._unsaid.add((what, run_key))
        self._something_to_say.set()

    async def _speak(self) -> None:
        while True:
            await self._something_to_say.wait()
            self._something_to_say.clear()
            await self._say_all()

    async def _say_all(self) -> None:
        unsaid, self._unsaid = self._unsaid, set()
        for payload in self._payloads(sorted(unsaid)):
            try:
                await self._database.write(partial(notify, payload=payload))
            except UnpauseError:
                # The database is away or the process stops: whoever should have heard it polls.
                return

    def _payloads(self, unsaid: list[tuple[str, int]]) -> Iterator[str]:
        for first in range(0, len(unsaid), _KEYS_AT_ONCE):
            said: dict[str, list[int]] = {}
            for what, run_key in unsaid[first : first + _KEYS_AT_ONCE]:
                said.setdefault(what, []).append(run_key)
            yield to_json({"from": self._node, **said}).decode()

    async def _listen(self) -> None:
        delay = _FIRST_RETRY_SECONDS
        while True:
            is_new = True
            try:
                async for payload in listen(self._listener_url):
                    if is_new:
                        is_new, delay = False, _FIRST_RETRY_SECONDS
                        self._catch_up()
                    if payload is not None:
                        self._take(payload)
            except Exception as error:  # noqa: BLE001 - the boundary around the listener: whatever it is, connect again
                _log.warning("listener lost its connection; it connects again", error=type(error).__name__)
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY_SECONDS)

    def _catch_up(self) -> None:
        """Look at everything once: nobody knows what was said while there was no connection."""
        self._look_at(self._subscriptions)
        self._tell(Signal.READY, None)

    def _take(self, payload: str) -> None:
        said = from_json(payload)
        if said.get("from") == self._node:
            return
        self._look_at(said.get(_GROWN, ()))
        for signal in Signal:
            for run_key in said.get(signal.value, ()):
                self._tell(signal, run_key)

    def _tell(self, signal: Signal, run_key: int | None) -> None:
        for hearer in self._hearers:
            hearer(signal, run_key)

    def _look_at(self, run_keys: Iterable[int]) -> None:
        followed = [run_key for run_key in run_keys if run_key in self._subscriptions]
        if followed:
            self._grown.update(followed)
            self._something_grew.set()

    async def _read(self) -> None:
        """Read what others have written about followed runs, and hand it over."""
        while True:
            await self._something_grew.wait()
            self._something_grew.clear()
            grown, self._grown = self._grown, set()
            for run_key in grown:
                await self._hand_over(run_key)

    async def _hand_over(self, run_key: int) -> None:
        seen = self._seen.get(run_key)
        if seen is None:
            # Nobody knows from where on.
            self._wake(run_key)
            return
        try:
            events = await self._database.read(lambda connection: list_events(connection, run_key, seen, _PAGE))
        except UnpauseError:
            return
        super().publish(run_key, events)
        if events and run_key in self._subscriptions:
            self._seen[run_key] = max(events[-1].sequence, self._seen.get(run_key, 0))
        if len(events) == _PAGE:
            self._look_at((run_key,))

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._every_seconds)
            for run_key in self._seen.keys() - self._subscriptions.keys():
                del self._seen[run_key]
            followed = list(self._subscriptions)
            if not followed:
                continue
            try:
                last = await self._database.read(partial(last_sequences, run_keys=followed))
            except UnpauseError:
                continue
            for run_key, sequence in last.items():
                if run_key not in self._seen:
                    self._wake(run_key)
                    self._seen[run_key] = sequence
                elif sequence > self._seen[run_key]:
                    self._look_at((run_key,))

    def _wake(self, run_key: int) -> None:
        """Have each follower of the run look into the log for itself."""
        for subscription in self._subscriptions.get(run_key, ()):
            subscription.offer(())


async def _always(work: Callable[[], Awaitable[None]]) -> None:
    """Work until cancelled; what goes wrong costs one poll interval, not the task."""
    while True:
        try:
            await work()
        except Exception:  # noqa: BLE001 - the boundary around the bus's tasks: streams must not stand still for ever
            _log.exception("the bus failed; it goes on")
            await asyncio.sleep(_FIRST_RETRY_SECONDS)
