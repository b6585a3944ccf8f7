"""Follows what changes in the inbox: one read for all who follow it in this process, at each hint of the bus."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import structlog

from unpause.domain.inbox import InboxChange, InboxItem, RequirementStatus
from unpause.errors import UnpauseError
from unpause.services.decisions import may_see
from unpause.services.inbox import why_not
from unpause.store.inbox import list_changed, list_of_runs
from unpause.store.requirements import list_authors
from unpause.tasks import VitalTask, Wakeup, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from datetime import datetime

    from unpause.domain.inbox import ChangePosition, Request
    from unpause.domain.principal import Principal
    from unpause.services.context import ServiceContext
    from unpause.services.inbox import Inbox
    from unpause.store.engine.database import Connection

_log = structlog.get_logger(__name__)

# Changes that come together are read together.
_COLLECT_SECONDS = 0.02
_RETRY_SECONDS = 0.5
# How much later than its time a change may become visible: its transaction waits for locks, and clocks differ.
_OVERLAP = timedelta(seconds=10)
_PAGE = 500
# The changes that a client may fall behind; one that falls further behind reconnects, and reads what it missed.
_LARGEST_BACKLOG = 512
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class VisibleChange:
    """A change as one caller sees it."""

    change: InboxChange
    item: InboxItem


# Makes of a change, and the server's URL, what a client gets; it is called once for all clients who see the same.
Render: TypeAlias = "Callable[[VisibleChange, str], bytes]"


class InboxSubscription:
    """One client that follows: what it has not been sent yet. A console costs little, and there may be many."""

    __slots__ = ("_waiting", "_wakeup", "is_ended")

    def __init__(self) -> None:
        self.is_ended = False
        self._waiting: list[_Piece] = []
        self._wakeup = Wakeup()

    def offer(self, piece: _Piece) -> None:
        """Queue what a client gets; end the stream of one that has fallen too far behind."""
        if len(self._waiting) >= _LARGEST_BACKLOG:
            self.end()
        else:
            self._waiting.append(piece)
            self._wakeup.wake()

    def end(self) -> None:
        """End the stream."""
        self.is_ended = True
        self._wakeup.wake()

    async def next_pieces(self) -> list[_Piece]:
        """Return what has come, at least one; nothing once the stream has ended."""
        if not self._waiting and not self.is_ended:
            await self._wakeup.wait()
        taken, self._waiting = self._waiting, []
        return [] if self.is_ended else taken


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a client gets: for a change in a state, or to keep the connection open."""

    state: object
    content: bytes


@dataclass(frozen=True, slots=True)
class _Audience:
    """Clients that see the same, and get it in the same form."""

    principal: Principal
    address: str


class InboxFeed:
    """Hands changes of the inbox to the clients of this process that follow it."""

    def __init__(self, context: ServiceContext, inbox: Inbox, keepalive_seconds: float) -> None:
        self._context = context
        self._inbox = inbox
        self._keepalive_seconds = keepalive_seconds
        self._audiences: defaultdict[_Audience, set[InboxSubscription]] = defaultdict(set)
        self._renders: dict[_Audience, Render] = {}
        self._changed: set[int] = set()
        self._may_have_missed = False
        self._has_changed = asyncio.Event()
        self._looked_at: datetime | None = None
        # The newest states that were handed over, by requirement.
        self._handed_over: OrderedDict[str, object] = OrderedDict()
        self._are_ended = False
        context.bus.on_requirements_changed(self._note)
        context.bus.on_requests_deleted(self._tell_of_deletion)

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
        self,
        subscription: InboxSubscription,
        viewer: tuple[Principal, str],
        render: Render,
        after: ChangePosition | None,
    ) -> AsyncGenerator[bytes]:
        """Yield what the principal of the ``viewer`` sees change from now on, until the subscription ends.

        First comes what changed after a position; changes of the seconds before that come again: some of them may have
        become visible only after it. The viewer has the server's URL, too, for what ``render`` makes of changes.
        """
        audience = _Audience(_anonymous(viewer[0]), viewer[1])
        self._subscribe(subscription, audience, render)
        try:
            sent: set[object] = set()
            if after is not None:
                async for piece in self._missed(audience, render, after):
                    sent.add(piece.state)
                    yield piece.content
            while pieces := await subscription.next_pieces():
                for piece in pieces:
                    if piece.state not in sent:
                        yield piece.content
                sent.clear()
        finally:
            self._audiences[audience].discard(subscription)
            if not self._audiences[audience]:
                del self._audiences[audience], self._renders[audience]

    async def catch_up(
        self, viewer: tuple[Principal, str], render: Render, after: ChangePosition | None
    ) -> AsyncGenerator[bytes]:
        """Yield what ``follow`` does before it waits."""
        if after is not None:
            async for piece in self._missed(_Audience(_anonymous(viewer[0]), viewer[1]), render, after):
                yield piece.content

    def _subscribe(self, subscription: InboxSubscription, audience: _Audience, render: Render) -> None:
        self._audiences[audience].add(subscription)
        self._renders[audience] = render
        if self._looked_at is None:
            self._looked_at = self._context.clock.now()
        # To keep its connection open from now on.
        self._has_changed.set()
        if self._are_ended:
            subscription.end()

    def _note(self, run_key: int | None) -> None:
        """Have the changed requirements of the run be read; of all runs where some may have been missed."""
        if not self._audiences:
            return
        if run_key is None:
            self._may_have_missed = True
        else:
            self._changed.add(run_key)
        self._has_changed.set()

    def _tell_of_deletion(self, organization_id: int | None) -> None:
        """Have clients read their lists again: who saw what is deleted nobody knows any more."""
        for audience, subscriptions in self._audiences.items():
            if organization_id in {None, audience.principal.organization_id}:
                for subscription in subscriptions:
                    subscription.offer(_LIST_CHANGED)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        look_at = loop.time() + self._keepalive_seconds
        while True:
            try:
                async with asyncio.timeout_at(look_at if self._audiences else None):
                    await self._has_changed.wait()
                await asyncio.sleep(_COLLECT_SECONDS)
            except TimeoutError:
                pass
            self._has_changed.clear()
            if loop.time() >= look_at:
                look_at = loop.time() + self._keepalive_seconds
                self._keep_alive()
            await self._try_to_hand_over()

    def _keep_alive(self) -> None:
        """Keep all connections open; look for what a lost announcement, or a command, of another process was about."""
        self._may_have_missed = True
        for subscriptions in self._audiences.values():
            for subscription in subscriptions:
                subscription.offer(_KEEPALIVE)

    async def _try_to_hand_over(self) -> None:
        try:
            await self._hand_over()
        except UnpauseError as error:
            _log.warning("inbox changes not read", error=type(error).__name__)
            self._may_have_missed = True
            await asyncio.sleep(_RETRY_SECONDS)
            self._has_changed.set()
        except Exception:  # noqa: BLE001 - the boundary around the feed: streams must go on
            _log.exception("inbox feed failed")
            self._may_have_missed = True

    async def _hand_over(self) -> None:
        """Read what has changed, once, and offer it to everybody who sees it."""
        keys, self._changed = self._changed, set()
        missed, self._may_have_missed = self._may_have_missed, False
        if not self._audiences:
            self._looked_at = None
        if not self._audiences or not (keys or missed):
            return
        now = self._context.clock.now()
        # The earlier one: the clock may have been put back since.
        since = min(self._looked_at or now, now) - _OVERLAP
        organizations = {audience.principal.organization_id for audience in self._audiences} if missed else set()

        def unit(connection: Connection) -> list[InboxChange]:
            requests = list_of_runs(connection, keys, since) if keys else []
            found = [_with_authors(connection, request) for request in requests]
            for organization in organizations:
                found += _list_all_changes(connection, organization, since)
            return found

        changes = await self._context.database.read(unit)
        if missed:
            self._looked_at = now
        for change in changes:
            if self._is_new(change):
                self._offer(change, now)

    def _is_new(self, change: InboxChange) -> bool:
        name, state = change.request.requirement.id, _state_of(change.request)
        if self._handed_over.get(name) == state:
            return False
        self._handed_over[name] = state
        self._handed_over.move_to_end(name)
        if len(self._handed_over) > _MAX_REMEMBERED:
            self._handed_over.popitem(last=False)
        return True

    def _offer(self, change: InboxChange, now: datetime) -> None:
        for audience, subscriptions in tuple(self._audiences.items()):
            piece = self._render(audience, self._renders[audience], change, now)
            if piece is not None:
                for subscription in subscriptions:
                    subscription.offer(piece)

    def _render(self, audience: _Audience, render: Render, change: InboxChange, now: datetime) -> _Piece | None:
        """Return what the audience gets for the change; None where it does not see the request."""
        request, principal = change.request, audience.principal
        is_visible = request.run.organization_id == principal.organization_id
        if not is_visible or not may_see(principal, request.run, request.requirement):
            return None
        reason = why_not(principal, request, now, lambda: set(change.authors))
        visible = VisibleChange(change, InboxItem(request, reason, self._inbox.describe(request)))
        return _Piece(_state_of(request), render(visible, audience.address))

    async def _missed(self, audience: _Audience, render: Render, after: ChangePosition) -> AsyncIterator[_Piece]:
        """Yield what the audience may have missed after a position."""
        organization_id = audience.principal.organization_id
        since = min(after.updated_at, self._context.clock.now()) - _OVERLAP
        place: ChangePosition | None = None
        while True:
            unit = partial(_list_changes, organization_id=organization_id, since=since, place=place)
            found = await self._context.database.read(unit)
            for change in found:
                piece = self._render(audience, render, change, self._context.clock.now())
                if piece is not None and change.position != after:
                    yield piece
            if len(found) < _PAGE:
                return
            place = found[-1].position


_KEEPALIVE = _Piece(None, b": keepalive\n\n")
_LIST_CHANGED = _Piece(None, b'event: inbox.changed\ndata: {"event":"inbox.changed"}\n\n')


def _anonymous(principal: Principal) -> Principal:
    """Return the principal without what does not change what it sees, so that more clients see the same."""
    return replace(principal, token_id=None, address=None)


def _list_changes(
    connection: Connection, organization_id: int, since: datetime, place: ChangePosition | None
) -> list[InboxChange]:
    """Return a page of the changes of an organization, those after a place."""
    found = list_changed(connection, organization_id, since, place, _PAGE)
    return [_with_authors(connection, request) for request in found]


def _list_all_changes(connection: Connection, organization_id: int, since: datetime) -> list[InboxChange]:
    found = page = _list_changes(connection, organization_id, since, None)
    while len(page) == _PAGE:
        page = _list_changes(connection, organization_id, since, page[-1].position)
        found = [*found, *page]
    return found


def _with_authors(connection: Connection, request: Request) -> InboxChange:
    rules = request.requirement.deciders
    if rules is None or not rules.four_eyes or request.status is not RequirementStatus.OPEN:
        return InboxChange(request)
    return InboxChange(request, frozenset(list_authors(connection, request.run.id, request.requirement.pause_id)))


def _state_of(request: Request) -> object:
    requirement = request.requirement
    votes = len(requirement.votes)
    return requirement.id, request.updated_at, request.status, votes, requirement.approval_status
