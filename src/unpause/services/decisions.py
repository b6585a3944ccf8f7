"""Who may decide a call, whether enough people have, and the audit trail of it: every decision passes through here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, AuditEntry, entry_by
from unpause.domain.deciders import Approver, ApproverEntries, ApproverKind, Vote, entries_naming, read_approver
from unpause.domain.requirements import Answer, Decision, Requirement, RequirementKind
from unpause.domain.runs import SETUP_COMMANDS
from unpause.domain.scopes import SETUP, names_granted
from unpause.errors import Conflict, Denied, NotADecider, RequirementMismatch
from unpause.services.grants import remember
from unpause.store.audit import add_entries
from unpause.store.requirements import add_answer, keep_votes, list_authors

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from types import TracebackType

    from unpause.domain.deciders import Deciders
    from unpause.domain.inbox import RunOwner
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import ToolAnswer
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection

# Reads the users who gave a run's model input before a pause; None is a user without a name.
Authors: TypeAlias = "Callable[[], set[str | None]]"


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
        remember=answer.remember,
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


def may_see(principal: Principal, run: RunOwner, requirement: Requirement) -> bool:
    """Whether the principal may read the requirement: it sees the run, or is named as an approver.

    What an administrator has to decide, or has decided, is seen by those who may list approvals.
    """
    if not _is_in_session(principal, run):
        return False
    of_run, of_approvals = principal.visibility.user_id, principal.visibility_of_approvals.user_id
    reads = principal.may("agents:read", run.agent_id) or principal.may("agents:run", run.agent_id)
    if (reads and of_run in {None, run.user_id}) or is_approver(principal, requirement.deciders):
        return True
    lists_approvals = principal.may("approvals:read") or principal.may("approvals:write")
    return requirement.approval == "required" and lists_approvals and of_approvals in {None, run.user_id}


def refusal_of(
    principal: Principal,
    run: RunOwner,
    requirement: Requirement,
    authors: Authors,
    decision: Decision = Decision.CONFIRMED,
) -> Denied | None:
    """Return why the principal may not decide the requirement so, whatever its answer is; None where it may.

    ``authors`` are the users who gave the run's model input before this pause; they are only read for four eyes.
    """
    try:
        require_access(principal, run, requirement)
        voter = _refuse_others(principal, run, requirement, authors)
        if _is_vote(requirement, decision):
            _named(requirement, voter)
    except Denied as error:
        return error
    return None


def require_access(principal: Principal, run: RunOwner, requirement: Requirement) -> None:
    """Raise Denied unless the principal may decide this kind of requirement of this run at all.

    That takes what the routes of both APIs require of somebody who decides it: the scope to resolve approvals where an
    administrator has to, else the scope to run the agent, and to see the run. One who is named as an approver need not
    see the run, and one whose scope is named needs no other: the author of the tool has chosen them for this call.
    """
    if run.source_type == SETUP_COMMANDS:
        principal.require_scope(SETUP)
    if not _is_in_session(principal, run):
        raise NotADecider(f"{requirement.label} belongs to another session")
    is_resolved = requirement.approval == "required" and not requirement.is_open
    if requirement.awaits_approval or is_resolved:
        principal.require_scope("approvals:write")
        return
    if is_approver(principal, requirement.deciders, ApproverKind.SCOPE):
        return
    principal.require_agent(run.agent_id)
    owner = principal.visibility.user_id
    if owner not in {None, run.user_id} and not is_approver(principal, requirement.deciders):
        raise NotADecider(f"{requirement.label} belongs to a run of another user")


def is_approver(principal: Principal, rules: Deciders | None, kind: ApproverKind | None = None) -> bool:
    """Whether the rules name the principal as an approver: as a user or by a scope, or only as ``kind`` says."""
    decider = decider_of(principal)
    approvers = map(read_approver, rules.approvers if rules is not None else ())
    return any(kind in {None, each.kind} and _is(principal, each, decider) for each in approvers)


def entries_of(principal: Principal, kind: ApproverKind | None = None) -> ApproverEntries:
    """Return the entries of ``approvers`` for which ``is_approver`` is true."""
    decider = decider_of(principal)
    approvers: list[Approver] = []
    if kind is not ApproverKind.SCOPE and decider:
        approvers.append(Approver(ApproverKind.USER, decider))
    if kind is not ApproverKind.USER:
        approvers += [Approver(ApproverKind.SCOPE, name) for name in names_granted(principal.scopes or ())]
    return ApproverEntries(
        texts=entries_naming(approvers), every_scope=principal.is_admin and kind is not ApproverKind.USER
    )


def decider_of(principal: Principal) -> str | None:
    """Return the person who decides: the authenticated user, or else the one whom the request names."""
    return principal.subject or principal.user_id


def _is(principal: Principal, approver: Approver, decider: str | None) -> bool:
    if approver.kind is ApproverKind.USER:
        return decider == approver.name
    # An administrator has every scope, and so does everybody on a server without authentication: to keep them out, name
    # users.
    return principal.may(approver.name)


def _is_in_session(principal: Principal, run: RunOwner) -> bool:
    return principal.session_id in {None, run.session_id}


def _is_vote(requirement: Requirement, decision: Decision) -> bool:
    """Whether such a decision is one vote of several."""
    rules = requirement.deciders
    # What follows an approval, such as the result of a call that is run elsewhere, is no further vote.
    is_approved = requirement.approval_status == ApprovalStatus.APPROVED
    return rules is not None and rules.quorum > 1 and decision is not Decision.REJECTED and not is_approved


def _named(requirement: Requirement, voter: str | None) -> str:
    if voter is None:
        raise NotADecider(f"{requirement.label} needs several people, and the request names no user")
    return voter


def _refuse_others(principal: Principal, run: RunOwner, requirement: Requirement, authors: Authors) -> str | None:
    """Return who decides; raise NotADecider for one whom the rules of the requirement exclude."""
    rules, decider = requirement.deciders, decider_of(principal)
    if rules is None:
        return decider
    if rules.four_eyes:
        _refuse_one_pair_of_eyes(run, requirement, decider, authors)
    if rules.approvers and not is_approver(principal, rules):
        raise NotADecider(f"{requirement.label} can only be decided by its approvers")
    return decider


def _refuse_one_pair_of_eyes(run: RunOwner, requirement: Requirement, decider: str | None, authors: Authors) -> None:
    """Raise NotADecider for the user of the run, and for users who gave its model input before this pause."""
    if run.user_id is None:
        # Any caller may be that user.
        raise NotADecider(f"{requirement.label} cannot be decided: the run has no user, and needs a second person")
    if decider is None:
        raise NotADecider(f"{requirement.label} needs a second person, and the request names no user")
    if decider == run.user_id:
        raise NotADecider(f"{requirement.label} cannot be decided by the user who started the run")
    found = authors()
    if None in found:
        # Any caller may be that author.
        raise NotADecider(f"{requirement.label} cannot be decided: some input of the run has no user")
    if decider in found:
        raise NotADecider(f"{requirement.label} cannot be decided by a user who gave the run input")


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
            if answer.remember is not None:
                raise RequirementMismatch(f"{requirement.label} needs more people: the last one can have it remembered")
            return voted
        add_answer(self.connection, requirement.id, answer)
        self.record(AuditAction.ANSWERED, requirement, answer.decision, answer.note, answer.values)
        self.remember(requirement, answer)
        return replace(voted, answer=answer)

    def remember(self, requirement: Requirement, answer: Answer) -> None:
        """Make the grant that the decision asks for, if any; raise RequirementMismatch where there can be none."""
        if answer.remember is not None:
            self._entries.append(remember(self.connection, self.run, requirement, answer, self.principal))

    def vote(self, requirement: Requirement, decision: Decision, note: str | None) -> tuple[Requirement, bool]:
        """Count a vote; return the requirement with it, and whether the call is decided. Raises as ``decide`` does."""
        rules = requirement.deciders
        if rules is None or self.principal.is_server:
            return requirement, True
        voter = self.refuse_others(requirement)
        if not _is_vote(requirement, decision):
            return requirement, True
        voter = _named(requirement, voter)
        if any(vote.by == voter for vote in requirement.votes):
            raise Conflict(f"{requirement.label} was already confirmed by {voter}: it needs {rules.quorum} people")
        votes = (*requirement.votes, Vote(voter, self.now, self.principal.via, note))
        keep_votes(self.connection, requirement.id, votes, self.now)
        voted, is_decided = replace(requirement, votes=votes), len(votes) >= rules.quorum
        if not is_decided:
            self.record(AuditAction.VOTED, requirement, decision, note)
        return voted, is_decided

    def refuse_others(self, requirement: Requirement) -> str | None:
        """Return who decides; raise NotADecider for one who may not."""
        return _refuse_others(self.principal, self.run, requirement, self._authors(requirement))

    def _authors(self, requirement: Requirement) -> Authors:
        return partial(list_authors, self.connection, self.run.id, requirement.pause_id)

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
