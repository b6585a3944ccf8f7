"""What waits for people, over all runs of an organization, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from unpause.domain.requirements import Requirement
from unpause.domain.runs import RunStatus, TranscriptEntry


class RequirementStatus(StrEnum):
    """Where a requirement stands."""

    OPEN = "open"
    DECIDED = "decided"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Whose(StrEnum):
    """Which open requests a list shows: those that the caller may decide, those of others, or both."""

    MINE = "mine"
    OTHERS = "others"
    ALL = "all"


class RunOwner(Protocol):
    """What of a run decides who may see and decide its requirements."""

    @property
    def agent_id(self) -> str:
        """The agent that runs it."""
        ...

    @property
    def session_id(self) -> str:
        """The session that it belongs to."""
        ...

    @property
    def user_id(self) -> str | None:
        """The user who started it."""
        ...

    @property
    def source_type(self) -> str:
        """What created it."""
        ...


@dataclass(frozen=True, slots=True)
class RunHead:
    """The part of a run that is shown with its requests."""

    id: int
    run_id: str
    organization_id: int
    session_id: str
    agent_id: str
    user_id: str | None
    status: RunStatus
    source_type: str


@dataclass(frozen=True, slots=True)
class Request:
    """A requirement with its run. ``updated_at`` is when it was added, voted on, or closed."""

    requirement: Requirement
    run: RunHead
    status: RequirementStatus
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """Which open requests a list shows; None means any.

    ``created_before`` and ``expires_before`` are moments; ``started_by`` is the user of the run. With ``id_prefix`` it
    shows the requests whose id, or whose run's id, begins so, whether they are open or not.
    """

    whose: Whose = Whose.MINE
    agent_id: str | None = None
    tool_name: str | None = None
    started_by: str | None = None
    session_id: str | None = None
    created_before: datetime | None = None
    expires_before: datetime | None = None
    in_doubt: bool | None = None
    id_prefix: str | None = None


@dataclass(frozen=True, slots=True)
class InboxPosition:
    """The last request of a page; the next page begins after it."""

    created_at: datetime
    requirement_id: str


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A request as one caller sees it; ``why_not`` is the reason where the caller may not decide it.

    ``description`` is that of the tool, ``messages`` are the last of the run, ``earlier`` the last decisions on other
    calls of the same tool.
    """

    request: Request
    why_not: str | None = None
    description: str | None = None
    messages: tuple[TranscriptEntry, ...] = ()
    earlier: tuple[Requirement, ...] = ()

    @property
    def may_decide(self) -> bool:
        """Whether the caller may approve or answer it."""
        return self.why_not is None


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Part of a list; ``after`` is where the next part begins, None at the end."""

    items: tuple[InboxItem, ...]
    after: InboxPosition | None = None


class ChangeKind(StrEnum):
    """What happened to a request."""

    ADDED = "requirement.added"
    UPDATED = "requirement.updated"
    DECIDED = "requirement.decided"
    EXPIRED = "requirement.expired"
    CANCELLED = "requirement.cancelled"


@dataclass(frozen=True, slots=True)
class ChangePosition:
    """A place among the changes of an organization: that of the last one that a client has seen."""

    updated_at: datetime
    requirement_id: str


@dataclass(frozen=True, slots=True)
class InboxChange:
    """A request as it stands after a change.

    ``authors`` are the users who gave the run's model input before the pause, None for one without a name; they are
    only read where the request needs a second person.
    """

    request: Request
    authors: frozenset[str | None] = frozenset()

    @property
    def kind(self) -> ChangeKind:
        """What happened."""
        requirement = self.request.requirement
        if self.request.status is not RequirementStatus.OPEN:
            return _ENDS[self.request.status]
        is_new = not requirement.votes and requirement.approval_status in {None, "pending"}
        return ChangeKind.ADDED if is_new else ChangeKind.UPDATED

    @property
    def position(self) -> ChangePosition:
        """Its place among the changes."""
        return ChangePosition(self.request.updated_at, self.request.requirement.id)


_ENDS = {
    RequirementStatus.DECIDED: ChangeKind.DECIDED,
    RequirementStatus.EXPIRED: ChangeKind.EXPIRED,
    RequirementStatus.CANCELLED: ChangeKind.CANCELLED,
}
