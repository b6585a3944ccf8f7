"""Grants: made with a decision, used in the transaction that starts a call, listed and revoked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, AuditEntry, entry_by
from unpause.domain.deciders import Deciders
from unpause.domain.grants import Grant, GrantMatch, GrantScope, GrantViewer, fingerprint_of
from unpause.domain.requirements import Answer, Decision, Requirement, RequirementKind
from unpause.errors import GrantNotFound, RequirementMismatch
from unpause.store.approvals import add_decided_approval
from unpause.store.audit import add_entries
from unpause.store.grants import (
    add_grant,
    find_grant,
    list_covering,
    list_grants,
    revoke_grant,
    use_grant,
)
from unpause.store.requirements import add_answer, add_requirements, list_authors
from unpause.webhooks.outbox import enqueue_decision

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.agents.driver import RequirementRequest
    from unpause.domain.grants import GrantFilter, GrantRequest, Remember
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run, ToolCall
    from unpause.services.context import ServiceContext
    from unpause.store.engine.database import Connection

# `via` of a decision that a grant has made.
VIA_GRANT = "grant"


class GrantService:
    """The use cases of grants."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def list_grants(
        self, principal: Principal, selection: GrantFilter, *, limit: int, after: str | None = None
    ) -> list[Grant]:
        """Return the visible grants, newest first: those after the one of that id."""
        now = self._context.clock.now()

        def unit(connection: Connection) -> list[Grant]:
            viewer = _viewer_of(principal)
            return list_grants(connection, viewer, selection, now, limit=limit, after=after)

        return await self._context.database.read(unit)

    async def revoke_grant(self, principal: Principal, grant_id: str) -> Grant:
        """Revoke the grant and return it; one that was revoked before stays as it is. No call starts by it afterwards.

        Raises GrantNotFound, or AgentForbidden for one who may neither run the agent nor resolve approvals, unless it
        is their own.
        """
        now = self._context.clock.now()

        def unit(connection: Connection) -> Grant:
            viewer = _viewer_of(principal)
            found = find_grant(connection, viewer, grant_id, now)
            if found is None:
                raise GrantNotFound
            is_own = found.granter is not None and found.granter == viewer.decider
            if not (is_own or principal.may("approvals:write")):
                principal.require_agent(found.agent_id)
            if revoke_grant(connection, grant_id, principal.name, now):
                details = {"tool_name": found.tool_name, "agent_id": found.agent_id, "uses": found.uses}
                entry = entry_by(principal, AuditAction.GRANT_REVOKED, now, subject=grant_id, details=details)
                add_entries(connection, [entry])
            return find_grant(connection, viewer, grant_id, now) or found

        return await self._context.database.write(unit)


def _viewer_of(principal: Principal) -> GrantViewer:
    """Return what the principal sees: grants for runs that it sees, of agents that it may read, and its own."""
    return GrantViewer(
        organization_id=principal.organization_id,
        decider=principal.subject or principal.user_id,
        user_id=principal.visibility_of_approvals.user_id,
        session_id=principal.session_id,
        agents=None if principal.may("approvals:write") else principal.visible_agents,
    )


def remember(
    connection: Connection, run: Run, requirement: Requirement, answer: Answer, principal: Principal
) -> AuditEntry:
    """Make the grant that a decision asks for; return its entry in the audit trail.

    Raises RequirementMismatch where this decision cannot be remembered, or not like that.
    """
    request, allowed = _checked_request(requirement, answer)
    now = answer.at
    arguments = {**requirement.tool_args, **(answer.values or {})}
    is_exact = request.match is GrantMatch.ARGUMENTS
    in_run = request.scope is GrantScope.RUN
    # Without a name, the user of another session may be somebody else.
    in_session = request.scope is GrantScope.SESSION or (request.scope is GrantScope.UNTIL and run.user_id is None)
    expiry = min(filter(None, (allowed.expiry_of(request, now), principal.expires_at)), default=None)
    grant = Grant(
        id=requirement.id,
        organization_id=run.organization_id,
        agent_id=run.agent_id,
        tool_name=requirement.tool_name,
        scope=request.scope,
        match=request.match,
        created_at=now,
        user_id=run.user_id,
        session_key=run.session_key if in_session else None,
        session_id=run.session_id if in_session or in_run else None,
        run_key=run.id if in_run else None,
        run_id=run.run_id if in_run else None,
        arguments=arguments if is_exact else None,
        fingerprint=fingerprint_of(arguments) if is_exact else None,
        approval=requirement.approval,
        deciders=requirement.deciders,
        granted_by=principal.name,
        granter=principal.subject or principal.user_id,
        token_id=None if principal.is_nameless_jwt else principal.token_id,
        expires_at=expiry,
    )
    add_grant(connection, grant)
    details = {
        "tool_name": grant.tool_name,
        "agent_id": grant.agent_id,
        "scope": grant.scope.value,
        "match": grant.match.value,
        "expires_at": expiry.isoformat() if expiry is not None else None,
    }
    return entry_by(principal, AuditAction.GRANTED, now, run_id=run.run_id, subject=grant.id, details=details)


def _checked_request(requirement: Requirement, answer: Answer) -> tuple[GrantRequest, Remember]:
    """Return what the decider wants remembered and what the author allows; raise RequirementMismatch otherwise."""
    request, allowed = answer.remember, requirement.remember
    label = requirement.label
    if request is None or answer.decision is Decision.REJECTED or requirement.kind is not RequirementKind.CONFIRMATION:
        raise RequirementMismatch(f"{label}: only an approval can be remembered")
    if allowed is None:
        raise RequirementMismatch(f"{label}: a decision about it cannot be remembered")
    if (reason := allowed.refusal_of(request, answer.at)) is not None:
        raise RequirementMismatch(f"{label} cannot be remembered like that: {reason}")
    return request, allowed


def find_usable(
    connection: Connection, run: Run, call: ToolCall, request: RequirementRequest, now: datetime
) -> Grant | None:
    """Return the grant that would decide the request now; None without one."""
    allowed = request.remember
    if allowed is None or request.kind is not RequirementKind.CONFIRMATION:
        return None
    found = list_covering(connection, run, call.tool_name, fingerprint_of(call.tool_args), now)
    for grant in found:
        # What the author has changed since is decided by people anew.
        is_same = (grant.approval, grant.deciders) == (request.approval, request.deciders)
        is_allowed = grant.scope in allowed.scopes and grant.match in allowed.matches
        if is_same and is_allowed and _may_decide(connection, run, grant):
            return grant
    return None


def _may_decide(connection: Connection, run: Run, grant: Grant) -> bool:
    """Whether the grant is a second person's, where one is needed: as ``Decisions.refuse_others`` asks it."""
    if not (grant.deciders or Deciders()).four_eyes:
        return True
    if run.user_id is None or grant.granter in {None, run.user_id}:
        return False
    return not {None, grant.granter} & list_authors(connection, run.id, "")


@dataclass(frozen=True, slots=True)
class GrantUse:
    """A call of an executing run that a grant may decide as it starts.

    ``requirement_id`` and ``position`` are those of the requirement that this adds.
    """

    run: Run
    call: ToolCall
    request: RequirementRequest
    requirement_id: str
    position: int

    def decide(self, connection: Connection, at: datetime) -> Requirement | None:
        """Have a grant decide the call; return the requirement, stored and answered, or None where no grant does.

        The caller has locked the run. The decision gets its approval record and its entry in the audit trail.
        """
        grant = find_usable(connection, self.run, self.call, self.request, at)
        if grant is None or not use_grant(connection, grant.id, at):
            return None
        requirement = self._requirement(at)
        answer = Answer(Decision.CONFIRMED, at, by=grant.granter, via=VIA_GRANT, grant_id=grant.id)
        decided = replace(requirement, answer=answer)
        add_requirements(connection, self.run, [requirement], self.position, at)
        add_answer(connection, requirement.id, answer)
        if requirement.approval is not None:
            add_decided_approval(connection, self.run, decided, ApprovalStatus.APPROVED)
        add_entries(connection, [self._entry(grant, at)])
        enqueue_decision(connection, self.run, decided, answer)
        return decided

    def _requirement(self, at: datetime) -> Requirement:
        request, call = self.request, self.call
        return Requirement(
            id=self.requirement_id,
            # It belongs to no pause: nobody waited.
            pause_id=self.requirement_id,
            tool_call_id=request.call_id if call.requirement is None else self.requirement_id,
            call_id=request.call_id,
            tool_name=call.tool_name,
            tool_args=call.tool_args,
            kind=request.kind,
            created_at=at,
            fields=request.fields,
            approval=request.approval,
            approval_status=ApprovalStatus.APPROVED.value if request.approval is not None else None,
            deciders=request.deciders,
        )

    def _entry(self, grant: Grant, at: datetime) -> AuditEntry:
        """Return the entry of an automatic decision: in the name of the one who granted, and naming the grant."""
        return AuditEntry(
            organization_id=self.run.organization_id,
            at=at,
            action=AuditAction.ANSWERED,
            via=VIA_GRANT,
            actor=grant.granted_by,
            token_id=grant.token_id,
            run_id=self.run.run_id,
            subject=self.requirement_id,
            decision=Decision.CONFIRMED.value,
            details={"tool_name": self.call.tool_name, "tool_call_id": self.call.tool_call_id, "grant_id": grant.id},
        )
