"""Who may decide a call, whether enough people have, and the audit trail of it: every decision passes through here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, AuditEntry, entry_by
from unpause.domain.deciders import ApproverKind, Vote, read_approver
from unpause.domain.requirements import Answer, Decision, Requirement, RequirementKind
from unpause.errors import Conflict, NotADecider
from unpause.store.audit import add_entries
from unpause.store.requirements import add_answer, keep_votes, list_authors

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from unpause.domain.deciders import Approver
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import ToolAnswer
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection


def answer_of(requirement: Requirement, answer: ToolAnswer, principal: Principal, at: datetime) -> Answer:
    """Return what a client sent, which fits the requirement, as the decision of that principal."""
    if answer.confirmed is False:
        decision = Decision.REJECTED
    elif requirement.kind is RequirementKind.CONFIRMATION:
        decision = Decision.CONFIRMED
    else:
        decision = Decision.ANSWERED
    return Answer(
        decision=decision,
        at=at,
        note=answer.note,
        values=dict(answer.values) if answer.values else None,
        result=answer.result if decision is Decision.ANSWERED else None,
        by=principal.user_id,
        via=principal.via,
    )


def answer_from_prompt(requirement: Requirement, prompt: str, principal: Principal, at: datetime) -> Answer:
    """Return what a prompt means for a requirement: the answer to a question, for all others a no with a note."""
    question = requirement.question
    return Answer(
        decision=Decision.ANSWERED if question else Decision.REJECTED,
        at=at,
        note=None if question else prompt or None,
        result=prompt if question else None,
        by=principal.user_id,
        via=principal.via,
        from_prompt=True,
    )


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one request decides about a locked run: the audit trail is written when the block ends without an error."""

    connection: Connection
    run: Run
    principal: Principal
    now: datetime
    _entries: list[AuditEntry] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error_type is None:
            add_entries(self.connection, self._entries)

    def decide(self, requirement: Requirement, answer: Answer) -> Requirement:
        """Keep the answer, or count it as one vote of several; return the requirement as it is then.

        Raises NotADecider for one who may not decide it, Conflict for one who has voted before.
        """
        voted, is_decided = self.vote(requirement, answer.decision, answer.note)
        if not is_decided:
            return voted
        add_answer(self.connection, requirement.id, answer)
        self.record(AuditAction.ANSWERED, requirement, answer.decision, answer.note, answer.values)
        return replace(voted, answer=answer)

    def vote(self, requirement: Requirement, decision: Decision, note: str | None) -> tuple[Requirement, bool]:
        """Count a vote; return the requirement with it, and whether the call is decided. Raises as ``decide`` does."""
        rules = requirement.deciders
        if rules is None or self.principal.is_server:
            return requirement, True
        voter = self.refuse_others(requirement)
        # What follows an approval, such as the result of a call that is run elsewhere, is no further vote.
        is_approved = requirement.approval_status == ApprovalStatus.APPROVED
        if rules.quorum == 1 or decision is Decision.REJECTED or is_approved:
            return requirement, True
        if voter is None:
            raise NotADecider(f"{_call(requirement)} needs several people, and the request names no user")
        if any(vote.by == voter for vote in requirement.votes):
            raise Conflict(f"{_call(requirement)} was already confirmed by {voter}: it needs {rules.quorum} people")
        votes = (*requirement.votes, Vote(voter, self.now, self.principal.via, note))
        keep_votes(self.connection, requirement.id, votes)
        voted, is_decided = replace(requirement, votes=votes), len(votes) >= rules.quorum
        if not is_decided:
            self.record(AuditAction.VOTED, requirement, decision, note)
        return voted, is_decided

    def refuse_others(self, requirement: Requirement) -> str | None:
        """Return who decides; raise NotADecider for one who may not."""
        rules, decider = requirement.deciders, self.principal.subject or self.principal.user_id
        if rules is None:
            return decider
        if rules.four_eyes:
            self._refuse_one_pair_of_eyes(requirement, decider)
        if rules.approvers and not any(self._is(read_approver(name), decider) for name in rules.approvers):
            raise NotADecider(f"{_call(requirement)} can only be decided by its approvers")
        return decider

    def _refuse_one_pair_of_eyes(self, requirement: Requirement, decider: str | None) -> None:
        """Raise NotADecider for the user of the run, and for users who gave its model input before this pause."""
        if self.run.user_id is None:
            # Any caller may be that user.
            raise NotADecider(f"{_call(requirement)} cannot be decided: the run has no user, and needs a second person")
        if decider is None:
            raise NotADecider(f"{_call(requirement)} needs a second person, and the request names no user")
        if decider == self.run.user_id:
            raise NotADecider(f"{_call(requirement)} cannot be decided by the user who started the run")
        authors = list_authors(self.connection, self.run.id, requirement.pause_id)
        if None in authors:
            # Any caller may be that author.
            raise NotADecider(f"{_call(requirement)} cannot be decided: some input of the run has no user")
        if decider in authors:
            raise NotADecider(f"{_call(requirement)} cannot be decided by a user who gave the run input")

    def _is(self, approver: Approver, decider: str | None) -> bool:
        if approver.kind is ApproverKind.USER:
            return decider == approver.name
        # An administrator has every scope, and so does everybody on a server without authentication: to keep them
        # out, name users.
        return self.principal.may(approver.name)

    def record(
        self,
        action: AuditAction,
        requirement: Requirement,
        decision: Decision | None = None,
        note: str | None = None,
        values: dict[str, Any] | None = None,
    ) -> None:
        """Add what was done about a requirement to the trail; of the ``values`` only their names."""
        details: dict[str, object] = {"tool_name": requirement.tool_name, "tool_call_id": requirement.call_id}
        if values:
            # A value may be a secret.
            details["fields"] = sorted(values)
        self._entries.append(
            entry_by(
                self.principal,
                action,
                self.now,
                run_id=self.run.run_id,
                subject=requirement.id,
                decision=decision.value if decision is not None else None,
                note=note,
                details=details,
            )
        )

    def record_continue(self, details: dict[str, Any] | None) -> None:
        """Add to the trail that the run was sent on."""
        run_id = self.run.run_id
        self._entries.append(
            entry_by(self.principal, AuditAction.CONTINUED, self.now, run_id=run_id, subject=run_id, details=details)
        )


def _call(requirement: Requirement) -> str:
    return f"Tool call {requirement.tool_call_id} ({requirement.tool_name})"
