"""Grants: decisions that count for later calls as well, and what a tool's author allows of that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from unpause.clock import LONGEST_SECONDS
from unpause.domain.deciders import Deciders


class GrantScope(StrEnum):
    """For which runs a decision is remembered: this run, this session, or all of the user's until a time."""

    RUN = "run"
    SESSION = "session"
    UNTIL = "until"


class GrantMatch(StrEnum):
    """For which calls: those with exactly these arguments, or all calls of the tool."""

    ARGUMENTS = "arguments"
    TOOL = "tool"


class StrictRule(StrEnum):
    """A rule about who decides that one remembered decision cannot keep; an author may allow it all the same."""

    APPROVAL = "approval"
    FOUR_EYES = "four_eyes"
    QUORUM = "quorum"


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """A decision that is to be remembered; ``until`` is when it ends at the latest."""

    scope: GrantScope
    match: GrantMatch = GrantMatch.ARGUMENTS
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Remember:
    """What the author of a tool allows to be remembered.

    ``match`` TOOL allows exact arguments as well. A grant ends ``max_seconds`` after the decision, if not before.
    ``overrides`` are the strict rules of the tool that a grant may stand in for.
    """

    # A misspelled restriction must not allow everything.
    __pydantic_config__ = ConfigDict(extra="forbid")

    match: GrantMatch = GrantMatch.ARGUMENTS
    scopes: Annotated[tuple[GrantScope, ...], Field(min_length=1)] = tuple(GrantScope)
    max_seconds: Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)] | None = None
    overrides: tuple[StrictRule, ...] = ()

    @property
    def matches(self) -> tuple[GrantMatch, ...]:
        """The ways to match that are allowed."""
        return tuple(GrantMatch) if self.match is GrantMatch.TOOL else (self.match,)

    def refusal_of(self, request: GrantRequest, now: datetime) -> str | None:
        """Return why this must not be remembered; None where it may."""
        if request.scope not in self.scopes:
            return f"its scope can be {', '.join(self.scopes)}"
        if request.match not in self.matches:
            return "only exactly these arguments can be"
        if request.scope is GrantScope.UNTIL and request.until is None:
            return "until a time needs the time"
        if request.until is not None and request.until <= now:
            return "the time is over"
        return None

    def expiry_of(self, request: GrantRequest, now: datetime) -> datetime | None:
        """Return when a grant ends that is made now; None for never."""
        longest = None if self.max_seconds is None else now + timedelta(seconds=self.max_seconds)
        return min(filter(None, (request.until, longest)), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A remembered decision. Its ``id`` is that of the requirement that was decided.

    It belongs to ``session_key`` or ``run_key`` where it is bound to one; always to the ``user_id`` of the run that was
    decided. ``approval`` and ``deciders`` are the tool's rules at that time. ``granted_by`` is the actor as the audit
    trail names it, ``granter`` the user. ``fingerprint`` is that of the arguments.
    """

    id: str
    organization_id: int
    agent_id: str
    tool_name: str
    scope: GrantScope
    match: GrantMatch
    created_at: datetime
    user_id: str | None = None
    session_key: int | None = None
    session_id: str | None = None
    run_key: int | None = None
    run_id: str | None = None
    arguments: dict[str, Any] | None = None
    fingerprint: str | None = None
    approval: str | None = None
    deciders: Deciders | None = None
    granted_by: str | None = None
    granter: str | None = None
    token_id: str | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    uses: int = 0
    last_used_at: datetime | None = None
    active: bool = True


@dataclass(frozen=True, slots=True)
class GrantViewer:
    """Whose grants a query finds: those that ``decider`` has made, and of the others those with all the rest.

    None means any ``user_id``, ``session_id`` or ``agents``.
    """

    organization_id: int
    decider: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    agents: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class GrantFilter:
    """Which grants a list shows; None means any."""

    agent_id: str | None = None
    tool_name: str | None = None
    session_id: str | None = None
    active: bool | None = None


def fingerprint_of(arguments: Mapping[str, Any]) -> str:
    """Return the same text for the same JSON, whatever the order of its keys; 1, 1.0 and true differ."""
    return hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
