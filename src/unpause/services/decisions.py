"""Who may decide a call, whether enough have, and what of it is written down: the one door for every decision."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, AuditEntry, done_by
from unpause.domain.deciders import ApproverKind, Vote, read_approver
from unpause.domain.requirements import Decision, Requirement
from unpause.errors import Conflict, NotADecider
from unpause.store.audit import add_entries
from unpause.store.requirements import add_answer, keep_votes, list_authors

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.domain.deciders import Approver
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Answer
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection


@dataclass(frozen=True, slots=True)
class Decisions:
    """What one request decides about a run that nobody else writes to; ``finish`` comes last."""

    connection: Connection
    run: Run
    principal: Principal
    now: datetime
    _entries: list[AuditEntry] = field(default_factory=list)

    def decide(self, requirement: Requirement, answer: Answer) -> Requirement:
        """Keep the answer, or count it as one voice of several; return the requirement as it is then.

        Raises NotADecider for one who may not decide it, Conflict for one who has before.
        """
        voted, is_decided = self.vote(requirement, answer.decision, answer.note)
        if not is_decided:
            return voted
        add_answer(self.connection, requirement.id, answer)
        self.note(AuditAction.ANSWERED, requirement, answer.decision, answer.note, answer.values)
        return replace(voted, answer=answer)

    def vote(self, requirement: Requirement, decision: Decision, note: str | None) -> tuple[Requirement, bool]:
        """Count a voice; return the requirement with it, and whether the call is decided. Raises as ``decide`` does."""
        rules = requirement.deciders
        if rules is None or self.principal.is_server:
            return requirement, True
        who = self.refuse_others(requirement)
        # What follows an approval, such as the result of a call that is run elsewhere, is no further voice.
        is_approved = requirement.approval_status == ApprovalStatus.APPROVED
        if rules.quorum == 1 or decision is Decision.REJECTED or is_approved:
            return requirement, True
        if who is None:
            raise NotADecider(f"{_call(requirement)} needs several people: say who you are")
        if any(vote.by == who for vote in requirement.votes):
            raise Conflict(f"{_call(requirement)} was confirmed by {who} before: it takes {rules.quorum} people")
        votes = (*requirement.votes, Vote(who, self.now, self.principal.via, note))
        keep_votes(self.connection, requirement.id, votes)
        voted, is_decided = replace(requirement, votes=votes), len(votes) >= rules.quorum
        if not is_decided:
            self.note(AuditAction.VOTED, requirement, decision, note)
        return voted, is_decided

    def finish(self) -> None:
        """Write the trail of what was decided."""
        add_entries(self.connection, self._entries)

    def refuse_others(self, requirement: Requirement) -> str | None:
        """Return who decides; raise NotADecider for one who may not."""
        rules, who = requirement.deciders, self.principal.subject or self.principal.user_id
        if rules is None:
            return who
        if rules.four_eyes and self.run.user_id is None:
            # Whoever asks may be the one.
            raise NotADecider(f"{_call(requirement)} cannot be decided: nobody knows who started the run")
        if rules.four_eyes and who is None:
            raise NotADecider(f"{_call(requirement)} is not for who started the run: say who you are")
        if rules.four_eyes and who == self.run.user_id:
            raise NotADecider(f"{_call(requirement)} has to be decided by somebody else than who started the run")
        if rules.four_eyes:
            self._refuse_authors(requirement, who)
        if rules.approvers and not any(self._is(read_approver(name), who) for name in rules.approvers):
            raise NotADecider(f"{_call(requirement)} is for others to decide")
        return who

    def _refuse_authors(self, requirement: Requirement, who: str | None) -> None:
        """Raise NotADecider for one who gave the run what made its model want the call: no second person, either."""
        authors = list_authors(self.connection, self.run.id, requirement.pause_id)
        if None in authors:
            # Whoever asks may be the one.
            raise NotADecider(f"{_call(requirement)} cannot be decided: nobody knows who gave the run its input")
        if who in authors:
            raise NotADecider(f"{_call(requirement)} has to be decided by somebody who gave the run no input")

    def _is(self, approver: Approver, who: str | None) -> bool:
        if approver.kind is ApproverKind.USER:
            return who == approver.name
        # An administrator has every scope, and so has everybody where nobody is asked who they are: to keep them out,
        # name users.
        return self.principal.may(approver.name)

    def note(
        self,
        action: AuditAction,
        requirement: Requirement,
        decision: Decision | None = None,
        note: str | None = None,
        values: dict[str, Any] | None = None,
    ) -> None:
        """Have the trail say what was done, and of what was filled in only the names."""
        details: dict[str, object] = {"tool_name": requirement.tool_name, "tool_call_id": requirement.call_id}
        if values:
            # Not what was filled in: that may be a secret.
            details["fields"] = sorted(values)
        self._entries.append(
            done_by(
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


def _call(requirement: Requirement) -> str:
    return f"Tool call {requirement.tool_call_id} ({requirement.tool_name})"
