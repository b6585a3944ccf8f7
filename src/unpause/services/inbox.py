"""Reads the inbox: what waits for people, who may decide it, and what led there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from unpause.domain.deciders import ApproverKind
from unpause.domain.inbox import InboxItem, InboxPage, InboxPosition, Request, RequirementStatus, Whose
from unpause.domain.scopes import SETUP
from unpause.errors import RequirementNotFound
from unpause.services.decisions import decider_of, entries_of, may_see, refusal_of
from unpause.store.inbox import (
    Viewer,
    find_request,
    list_earlier,
    list_last_messages,
    list_open,
)
from unpause.store.requirements import list_authors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from unpause.agents.registry import AgentRegistry
    from unpause.domain.inbox import InboxFilter
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import TranscriptEntry
    from unpause.services.context import ServiceContext
    from unpause.services.decisions import Authors
    from unpause.store.engine.database import Connection

_EARLIER = 5
# The requests that one page looks at: more than a page only where four eyes or votes exclude the caller.
_MAX_EXAMINED = 1000
_CLOSED = {
    RequirementStatus.DECIDED: "It was decided already",
    RequirementStatus.EXPIRED: "It expired before anybody decided it",
    RequirementStatus.CANCELLED: "Its run was cancelled",
}


class Inbox:
    """The use cases of readers of the inbox."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def list_open(
        self, principal: Principal, selection: InboxFilter, after: InboxPosition | None, limit: int
    ) -> InboxPage:
        """Return a page of open requests, oldest first."""
        now = self._context.clock.now()

        def unit(connection: Connection) -> InboxPage:
            found, last = _Search(connection, principal, selection, now).page(after, limit)
            messages = list_last_messages(connection, {item.request.run.id for item in found})
            return InboxPage(tuple(self._with(item, messages.get(item.request.run.id, ())) for item in found), last)

        return await self._context.database.read(unit)

    async def get_item(self, principal: Principal, requirement_id: str) -> InboxItem:
        """Return one request, open or not, with earlier decisions on the same tool; raise RequirementNotFound."""
        now = self._context.clock.now()
        return await self._context.database.read(
            lambda connection: self.read_item(connection, principal, requirement_id, now)
        )

    def read_item(
        self,
        connection: Connection,
        principal: Principal,
        requirement_id: str,
        now: datetime,
        *,
        with_earlier: bool = True,
    ) -> InboxItem:
        """Do the same within a transaction; ``with_earlier`` False leaves out the earlier decisions."""
        request = find_request(connection, principal.organization_id, requirement_id)
        if request is None or not may_see(principal, request.run, request.requirement):
            raise RequirementNotFound
        item = item_of(connection, principal, request, now)
        earlier: list[Request] = []
        if with_earlier:
            earlier = list_earlier(connection, request, viewer_of(principal), _EARLIER)
        messages = list_last_messages(connection, [request.run.id]).get(request.run.id, ())
        return self._with(item, messages, [each.requirement for each in earlier])

    def describe(self, request: Request) -> str | None:
        """Return the description of the tool, where an agent that is served here has it."""
        return _describe(self._context.agents, request)

    def _with(
        self, item: InboxItem, messages: Sequence[TranscriptEntry], earlier: Sequence[Requirement] = ()
    ) -> InboxItem:
        return replace(item, description=self.describe(item.request), messages=tuple(messages), earlier=tuple(earlier))


def item_of(connection: Connection, principal: Principal, request: Request, now: datetime) -> InboxItem:
    """Return the request as the principal sees it, without what is read of its run."""
    authors = partial(list_authors, connection, request.run.id, request.requirement.pause_id)
    return InboxItem(request, why_not(principal, request, now, authors))


def why_not(principal: Principal, request: Request, now: datetime, authors: Authors) -> str | None:
    """Return why the principal may not decide the request; None where it may."""
    requirement = request.requirement
    if request.status is not RequirementStatus.OPEN:
        return _CLOSED[request.status]
    if requirement.expires_at is not None and requirement.expires_at <= now:
        return _CLOSED[RequirementStatus.EXPIRED]
    refusal = refusal_of(principal, request.run, requirement, authors)
    return None if refusal is None else refusal.message


def viewer_of(principal: Principal) -> Viewer:
    """Return in terms of columns what the principal may see and decide, as ``may_see`` and ``refusal_of`` do."""
    return Viewer(
        organization_id=principal.organization_id,
        user_id=principal.visibility.user_id,
        session_id=principal.session_id,
        decider=decider_of(principal),
        reads=principal.visible_agents,
        runs=principal.agents_for("run"),
        approves=principal.may("approvals:write"),
        reads_approvals=principal.may("approvals:read"),
        may_set_up=principal.may(SETUP),
        entries=entries_of(principal),
        scope_entries=entries_of(principal, ApproverKind.SCOPE),
    )


@dataclass(frozen=True, slots=True)
class _Search:
    """Looks for open requests until a page is full."""

    connection: Connection
    principal: Principal
    selection: InboxFilter
    now: datetime

    def page(self, after: InboxPosition | None, limit: int) -> tuple[list[InboxItem], InboxPosition | None]:
        """Return the requests of a page, and where the next one begins."""
        viewer = viewer_of(self.principal)
        found: list[InboxItem] = []
        examined = 0
        while examined < _MAX_EXAMINED:
            size = limit + 1
            requests = list_open(self.connection, viewer, self.selection, self.now, after, size)
            for request in requests:
                item = self._fitting(request)
                if item is None:
                    after = position_of(request)
                elif len(found) < limit:
                    found.append(item)
                    after = position_of(request)
                else:
                    return found, after
            if len(requests) < size:
                return found, None
            examined += len(requests)
        return found, after

    def _fitting(self, request: Request) -> InboxItem | None:
        item = item_of(self.connection, self.principal, request, self.now)
        if self.selection.whose is Whose.ALL:
            return item
        is_mine = item.may_decide and not has_confirmed(self.principal, request)
        return item if is_mine is (self.selection.whose is Whose.MINE) else None


def has_confirmed(principal: Principal, request: Request) -> bool:
    """Whether the principal is one of those who have confirmed the request already."""
    return decider_of(principal) in {vote.by for vote in request.requirement.votes}


def position_of(request: Request) -> InboxPosition:
    """Return the place of the request in a list."""
    return InboxPosition(request.requirement.created_at, request.requirement.id)


def _describe(agents: AgentRegistry, request: Request) -> str | None:
    if not agents.is_loaded:
        return None
    driver = agents.find_agent(request.run.agent_id)
    tools = driver.list_tools() if driver is not None else []
    name = request.requirement.tool_name
    return next((tool.description for tool in tools if tool.name == name), None)
