"""Follows what changes in the inbox: one read for all who follow it in this process, at each hint of the bus."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import structlog

from unpause.domain.inbox import Change, InboxItem, RequirementStatus
from unpause.errors import UnpauseError
from unpause.services.decisions import may_see
from unpause.services.inbox import why_not
from unpause.store.inbox import list_changed, list_of_runs
from unpause.store.requirements import list_authors
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
    from datetime import datetime

    from unpause.domain.inbox import ChangePosition, Request
    from unpause.domain.principal import Principal
    from unpause.services.context import ServiceContext
    from unpause.services.inbox import Inbox
    from unpause.store.engine.database import Connection

_log = structlog.get_logger(__name__)

# Changes that come together are read together.
_COLLECT_SECONDS = 0.02
# Where other processes share the database a hint may get lost.
_LOOK_SECONDS = 15.0
# How much later than its time a change may become visible: its transaction waits for locks, and clocks differ.
_OVERLAP = timedelta(seconds=10)
_PAGE = 500
# The changes that a client may fall behind; one that falls further behind reconnects, and reads what it missed.
_LARGEST_BACKLOG = 512
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class SeenChange:
    """A change as one caller sees it."""

    change: Change
    item: InboxItem


# Makes of a change what a client gets; it is called once for all clients who see the same.
Render: TypeAlias = "Callable[[SeenChange], str]"
# A change with what a client gets for it.
Rendered: TypeAlias = tuple[Change, str]


class Subscription:
    """One client that follows: what it has not been sent yet."""

    def __init__(self) -> None:
        self.is_ended = False
        self._has_more = asyncio.Event()
        self._waiting: list[Rendered] = []

    def offer(self, rendered: Rendered) -> None:
        """Queue a change; end the stream of a client that has fallen too far behind."""
        if len(self._waiting) >= _LARGEST_BACKLOG:
            self.end()
        else:
            self._waiting.append(rendered)
            self._has_more.set()

    def end(self) -> None:
        """End the stream."""
        self.is_ended = True
        self._has_more.set()

    async def next_changes(self) -> list[Rendered]:
        """Return what has come, at least one; nothing once the stream has ended."""
        await self._has_more.wait()
        self._has_more.clear()
        taken, self._waiting = self._waiting, []
        return [] if self.is_ended else taken


@dataclass(frozen=True, slots=True)
class _Audience:
    """Clients that see the same, and get it in the same form."""

    principal: Principal
    address: str


class InboxFeed:
    """Hands changes of the inbox to the clients of this process that follow it."""

    def __init__(self, context: ServiceContext, inbox: Inbox) -> None:
        self._context = context
        self._inbox = inbox
        self._audiences: defaultdict[_Audience, set[Subscription]] = defaultdict(set)
        self._renders: dict[_Audience, Render] = {}
        self._changed: set[int] = set()
        self._may_have_missed = False
        self._has_changed = asyncio.Event()
        self._looked_at: datetime | None = None
        # The newest states that were handed over, by requirement.
        self._handed_over: OrderedDict[str, object] = OrderedDict()
        self._are_ended = False
        context.bus.on_requirements_changed(self._note)

    def end_streams(self) -> None:
        """End all streams, and those that begin later, so that clients reconnect elsewhere."""
        self._are_ended = True
        for subscriptions in self._audiences.values():
            for subscription in subscriptions:
                subscription.end()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Hand over changes during the block."""
        async with background_tasks() as tasks:
            task = VitalTask(tasks, self._work(), "inbox feed")
            try:
                yield
            finally:
                task.stop()

    async def follow(
        self, principal: Principal, address: str, render: Render, after: ChangePosition | None
    ) -> AsyncGenerator[Rendered]:
        """Yield changes that the principal sees from now on, and before them those that came after a position.

        Changes of the seconds before that position come again: some of them may have become visible only after it.
        ``address`` is the server's URL in what ``render`` makes of them.
        """
        audience = _Audience(_anonymous(principal), address)
        with self._subscribed(audience, render) as subscription:
            sent: set[object] = set()
            if after is not None:
                async for change, text in self._missed(audience, render, after):
                    sent.add(_state_of(change.request))
                    yield change, text
            while changes := await subscription.next_changes():
                for change, text in changes:
                    if _state_of(change.request) not in sent:
                        yield change, text
                sent.clear()

    async def catch_up(
        self, principal: Principal, address: str, render: Render, after: ChangePosition | None
    ) -> AsyncGenerator[Rendered]:
        """Yield what ``follow`` does before it waits."""
        if after is not None:
            async for rendered in self._missed(_Audience(_anonymous(principal), address), render, after):
                yield rendered

    @contextmanager
    def _subscribed(self, audience: _Audience, render: Render) -> Iterator[Subscription]:
        subscription = Subscription()
        self._audiences[audience].add(subscription)
        self._renders[audience] = render
        if self._looked_at is None:
            self._looked_at = self._context.clock.now()
        if self._are_ended:
            subscription.end()
        try:
            yield subscription
        finally:
            self._audiences[audience].discard(subscription)
            if not self._audiences[audience]:
                del self._audiences[audience], self._renders[audience]

    def _note(self, run_key: int | None) -> None:
        """Have the changed requirements of the run be read; of all runs where some may have been missed."""
        if not self._audiences:
            return
        if run_key is None:
            self._may_have_missed = True
        else:
            self._changed.add(run_key)
        self._has_changed.set()

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS if self._context.database.is_shared else None):
                    await self._has_changed.wait()
            except TimeoutError:
                self._may_have_missed = True
            await asyncio.sleep(_COLLECT_SECONDS)
            self._has_changed.clear()
            try:
                await self._hand_over()
            except UnpauseError as error:
                _log.warning("inbox changes not read", error=type(error).__name__)
                self._may_have_missed = True
                await asyncio.sleep(_COLLECT_SECONDS)
                self._has_changed.set()
            except Exception:  # noqa: BLE001 - the boundary around the feed: streams must go on
                _log.exception("inbox feed failed")

    async def _hand_over(self) -> None:
        """Read what has changed, once, and offer it to everybody who sees it."""
        keys, self._changed = self._changed, set()
        missed, self._may_have_missed = self._may_have_missed, False
        if not self._audiences:
            self._looked_at = None
            return
        now = self._context.clock.now()
        since = (self._looked_at or now) - _OVERLAP
        organizations = {audience.principal.organization_id for audience in self._audiences} if missed else set()

        def unit(connection: Connection) -> list[Change]:
            found = list_of_runs(connection, keys, since) if keys else []
            for organization in organizations:
                found += list_changed(connection, organization, since, None, _PAGE)
            return [_with_authors(connection, request) for request in found]

        changes = await self._context.database.read(unit)
        if missed:
            self._looked_at = now
        for change in changes:
            if self._is_new(change):
                self._offer(change, now)

    def _is_new(self, change: Change) -> bool:
        name, state = change.request.requirement.id, _state_of(change.request)
        if self._handed_over.get(name) == state:
            return False
        self._handed_over[name] = state
        self._handed_over.move_to_end(name)
        if len(self._handed_over) > _MOST_REMEMBERED:
            self._handed_over.popitem(last=False)
        return True

    def _offer(self, change: Change, now: datetime) -> None:
        for audience, subscriptions in tuple(self._audiences.items()):
            text = self._render(audience, self._renders[audience], change, now)
            if text is not None:
                for subscription in subscriptions:
                    subscription.offer((change, text))

    def _render(self, audience: _Audience, render: Render, change: Change, now: datetime) -> str | None:
        """Return what the audience gets for the change; None where it does not see the request."""
        request, principal = change.request, audience.principal
        is_visible = request.run.organization_id == principal.organization_id
        if not is_visible or not may_see(principal, request.run, request.requirement):
            return None
        reason = why_not(principal, request, now, lambda: set(change.authors))
        return render(SeenChange(change, InboxItem(request, reason, self._inbox.describe(request))))

    async def _missed(self, audience: _Audience, render: Render, after: ChangePosition) -> AsyncIterator[Rendered]:
        """Yield what the audience may have missed after a position."""
        place: ChangePosition | None = None
        while True:
            found = await self._read_missed(audience.principal.organization_id, after.updated_at - _OVERLAP, place)
            for change in found:
                text = self._render(audience, render, change, self._context.clock.now())
                if text is not None and change.position != after:
                    yield change, text
            if len(found) < _PAGE:
                return
            place = found[-1].position

    async def _read_missed(
        self, organization_id: int, since: datetime, place: ChangePosition | None
    ) -> Sequence[Change]:
        def unit(connection: Connection) -> list[Change]:
            found = list_changed(connection, organization_id, since, place, _PAGE)
            return [_with_authors(connection, request) for request in found]

        return await self._context.database.read(unit)


def _anonymous(principal: Principal) -> Principal:
    """Return the principal without what does not change what it sees, so that more clients see the same."""
    return replace(principal, token_id=None, address=None)


def _with_authors(connection: Connection, request: Request) -> Change:
    rules = request.requirement.deciders
    if rules is None or not rules.four_eyes or request.status is not RequirementStatus.OPEN:
        return Change(request)
    return Change(request, frozenset(list_authors(connection, request.run.id, request.requirement.pause_id)))


def _state_of(request: Request) -> object:
    requirement = request.requirement
    votes = len(requirement.votes)
    return requirement.id, request.updated_at, request.status, votes, requirement.approval_status
