"""Creates the requirements of a pause: what people decide, until when, and under which ids they answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from unpause.agents.driver import RequirementRequest
from unpause.domain.explanations import doubt_text
from unpause.domain.requirements import OnExpire, Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from unpause.clock import Clock, Ids
    from unpause.domain.runs import ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseRules:
    """The settings of pauses: when they expire and what happens then. Durations are in seconds."""

    pause_expires_in: float | None = None
    approval_expires_in: float | None = None
    on_expire: OnExpire = OnExpire.REJECT
    remind_before: float | None = None


@dataclass(frozen=True, slots=True)
class RequirementFactory:
    """Creates requirements from requests."""

    clock: Clock
    ids: Ids
    rules: PauseRules

    def create(self, waiting: Iterable[tuple[RequirementRequest, ToolCall]]) -> list[Requirement]:
        """Return the requirements of a new pause: one for each call that waits."""
        pause_id = self.ids.fresh()
        return [self._requirement(pause_id, request, call) for request, call in waiting]

    def _requirement(self, pause_id: str, request: RequirementRequest, call: ToolCall) -> Requirement:
        now = self.clock.now()
        requirement_id = self.ids.fresh()
        expires_at, remind_at = self._times(request, now)
        # A call that was answered before, or has started, gets a new id: the earlier answer, sent once more, must not
        # count for this requirement.
        is_first = call.requirement is None and not call.in_doubt
        return Requirement(
            id=requirement_id,
            pause_id=pause_id,
            tool_call_id=request.call_id if is_first else requirement_id,
            call_id=request.call_id,
            tool_name=call.tool_name,
            tool_args=call.tool_args,
            kind=request.kind,
            created_at=now,
            fields=request.fields,
            editable=request.editable,
            question=request.question,
            in_doubt=call.in_doubt or request.in_doubt,
            approval=request.approval,
            approval_status="pending" if request.approval == "required" else None,
            message=request.message,
            expires_at=expires_at,
            on_expire=self._on_expire(request, call),
            remind_at=remind_at,
            deciders=request.deciders,
            metadata=request.metadata,
            remember=request.remember,
        )

    def _times(self, request: RequirementRequest, now: datetime) -> tuple[datetime | None, datetime | None]:
        """Return when the requirement expires, and when people are reminded of it; None for never."""
        rules = self.rules
        default = rules.approval_expires_in if request.approval == "required" else rules.pause_expires_in
        seconds = request.expires_in or default
        if not seconds:
            return None, None
        expires_at = now + timedelta(seconds=seconds)
        if rules.remind_before is None:
            return expires_at, None
        return expires_at, max(now, expires_at - timedelta(seconds=rules.remind_before))

    def _on_expire(self, request: RequirementRequest, call: ToolCall) -> OnExpire:
        on_expire = request.on_expire or self.rules.on_expire
        if (call.in_doubt or request.message is not None) and on_expire is OnExpire.APPROVE:
            # A call that may already have run, or that differs from what was shown, never runs without a human's yes.
            return OnExpire.REJECT
        return on_expire


def doubt_request(call: ToolCall) -> RequirementRequest:
    """Return the request about a call in doubt: with the deciders and the time limit of the call's last requirement."""
    return RequirementRequest.again(call.tool_call_id, call.requirement, doubt_text(call))
