"""What one continue does to a paused run, inside its transaction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.conflicts import not_paused, pause_is_over
from unpause.domain.event_payloads import decision_payload, pause_payload
from unpause.domain.events import Event, EventType
from unpause.domain.explanations import ALL_DECIDED, awaiting_text
from unpause.domain.requirements import (
    DEFAULT_REJECTION,
    Answer,
    Decision,
    Requirement,
    RequirementKind,
    match_answers,
)
from unpause.domain.runs import CallStatus, Outcome, Run, RunInput, RunStatus, ToolCall
from unpause.domain.transitions import Trigger
from unpause.errors import ApprovalPending, PauseIsOver, RequirementsOpen
from unpause.services.commands import Accepted
from unpause.services.decisions import Decisions, answer_from_prompt, answer_of
from unpause.services.value_checks import ValueChecks
from unpause.store.approvals import add_decided_approval
from unpause.store.engine.changes import note_details
from unpause.store.events import add_events
from unpause.store.journal import add_input, list_inputs, list_tool_calls, settle_tool_call
from unpause.store.runs import append_to_log, transition
from unpause.webhooks.outbox import enqueue_decision, set_run_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from unpause.domain.principal import Principal
    from unpause.services.claims import Slot
    from unpause.services.commands import ContinueRun
    from unpause.store.engine.database import Connection


@dataclass(frozen=True)
class ContinueHandler:
    """Continues one locked run; ``requirements`` are all it ever waited for, none of its present pause expired.

    ``columns`` are further ones to set: another model for the rest of the run, its trace; ``checks`` the values that
    tools have checked. A ``slot`` claims the run at once where it moves. ``known_calls`` are the run's calls, where
    they were read already.
    """

    connection: Connection
    run: Run
    requirements: Sequence[Requirement]
    principal: Principal
    command: ContinueRun
    now: datetime
    columns: Mapping[str, str] = field(default_factory=dict)
    checks: ValueChecks = field(default_factory=ValueChecks)
    slot: Slot | None = None
    known_calls: Sequence[ToolCall] | None = None

    def apply(self) -> tuple[Accepted, tuple[Event, ...]]:
        """Keep the answers and, when nothing is open any more, move the run; return the outcome and the new events.

        The order of the checks is part of the contract: a late continue is a conflict before anything else is wrong
        with it, and a pending approval is refused before the answers are looked at.
        """
        run = self.run
        if run.status is not RunStatus.PAUSED:
            raise not_paused(run)
        if self.command.pause_id is not None and self.command.pause_id != run.pause_id:
            raise pause_is_over(run)
        if any(requirement.awaits_approval for requirement in self.present):
            raise ApprovalPending
        answers = self._answers()
        return self.decide(answers, details=self._continue_details(decides=bool(answers)))

    def decide(
        self, answers: Mapping[str, Answer], details: Mapping[str, Any] | None = None, *, moves: bool = True
    ) -> tuple[Accepted, tuple[Event, ...]]:
        """Keep the answers, by requirement id, and move the paused run if nothing of its pause is open any more.

        With ``moves`` False it stays paused whatever is open. ``details`` go into the audit trail as an entry of their
        own; None makes no such entry.
        """
        by_id = {requirement.id: requirement for requirement in self.requirements}
        with Decisions(self.connection, self.run, self.principal, self.now) as decisions:
            if details is not None:
                decisions.record_continue(dict(details) or None)
            decided = {key: decisions.decide(by_id[key], answer) for key, answer in answers.items()}
        after = [decided.get(requirement.id, requirement) for requirement in self.requirements]
        present = [requirement for requirement in after if requirement.pause_id == self.run.pause_id]
        still_open = [requirement for requirement in present if requirement.is_open]
        if still_open or not moves:
            return self._stay(after, awaiting_text(still_open) if still_open else ALL_DECIDED)
        approved = self._record_audit_approvals(present)
        return self._move([approved.get(requirement.id, requirement) for requirement in after], present)

    @cached_property
    def _calls(self) -> Sequence[ToolCall]:
        return list_tool_calls(self.connection, self.run.id) if self.known_calls is None else self.known_calls

    @cached_property
    def present(self) -> list[Requirement]:
        """The requirements of the run's present pause."""
        return [requirement for requirement in self.requirements if requirement.pause_id == self.run.pause_id]

    def _answers(self) -> dict[str, Answer]:
        """Return the decisions in the request, by requirement id: its answers, and what its prompt means for the rest.

        The prompt decides everything that the answers leave open.
        """
        prompt = self.command.prompt
        answers: dict[str, Answer] = {}
        if self.command.answers or prompt is None:
            answers = self._matched()
        if prompt is None:
            return answers
        rest = (item for item in self.present if item.is_open and item.id not in answers)
        return {**answers, **{item.id: answer_from_prompt(item, prompt, self.principal, self.now) for item in rest}}

    def _matched(self) -> dict[str, Answer]:
        """Return the answers to single calls, by requirement id, once they fit what is open."""
        calls = self._calls if self.command.answers else []
        known = {call.tool_call_id for call in calls} | {item.tool_call_id for item in self.requirements}
        try:
            matched = match_answers(self.present, self.command.answers, frozenset(known))
        except PauseIsOver:
            if self.present or not self._echoes_present_pause(calls):
                raise pause_is_over(self.run) from None
            return {}
        except RequirementsOpen:
            if self.command.prompt is None:
                raise
            return {}
        by_id = {requirement.id: requirement for requirement in self.present}
        decisions = Decisions(self.connection, self.run, self.principal, self.now)
        for key, answer in matched.items():
            if answer.values:
                # Before an author's validator runs for a caller who may not decide.
                decisions.refuse_others(by_id[key])
        return {
            key: answer_of(by_id[key], self.checks.take(self.run, by_id[key], answer), self.principal, self.now)
            for key, answer in matched.items()
        }

    def _echoes_present_pause(self, calls: Sequence[ToolCall]) -> bool:
        """Whether a request to a run that was paused on request echoes this pause, and not an earlier one.

        It does where it names the pause; or a call that has not run and never had a requirement; or the result of a
        call that had one, since the result came only after it.
        """
        if self.command.pause_id is not None:
            return True
        by_id = {call.tool_call_id: call for call in calls}
        required = {item.call_id: item for item in self.requirements}
        for answer in self.command.answers:
            call, requirement = by_id.get(answer.tool_call_id), required.get(answer.tool_call_id)
            if call is None:
                continue
            if requirement is None and call.status is not CallStatus.FINISHED:
                return True
            is_external = requirement is None or requirement.kind is RequirementKind.EXTERNAL_EXECUTION
            if call.status is CallStatus.FINISHED and answer.result is not None and not is_external:
                return True
        return False

    def _stay(self, requirements: Sequence[Requirement], awaiting: str) -> tuple[Accepted, tuple[Event, ...]]:
        run = self.run
        payload = pause_payload(run.pause_id or "", None, self._calls, requirements)
        changes = {"awaiting": awaiting, **self.columns}
        last = append_to_log(self.connection, run.id, 1, self.now, changes)
        self._add_input()
        self._announce(run, requirements)
        events = add_events(self.connection, run.id, (Event(EventType.RUN_PAUSED, self.now, payload),), last)
        return Accepted(run, run.last_sequence, moved=False), events

    def _record_audit_approvals(self, answered: Sequence[Requirement]) -> dict[str, Requirement]:
        """Add a decided approval for each call whose policy is ``approval="audit"``; return those requirements."""
        recorded: dict[str, Requirement] = {}
        for requirement in answered:
            if requirement.approval == "audit" and requirement.answer is not None:
                rejected = requirement.answer.decision is Decision.REJECTED
                status = ApprovalStatus.REJECTED if rejected else ApprovalStatus.APPROVED
                add_decided_approval(self.connection, self.run, requirement, status)
                recorded[requirement.id] = replace(requirement, approval_status=status.value)
        return recorded

    def _continue_details(self, *, decides: bool) -> dict[str, Any] | None:
        """Return the trail's details of a continue without a decision, or with a prompt or model beside its answers.

        Decisions have entries of their own, with the prompt as the note where it decides; None for nothing more.
        """
        command = self.command
        has_input = bool(command.prompt or command.images)
        if decides and command.model is None and not (has_input and command.answers):
            return None
        # Not the prompt itself: that is in the run's log, and is deleted with it.
        details: dict[str, Any] = {} if command.model is None else {"model": command.model}
        if has_input:
            details |= {"prompt_characters": len(command.prompt or ""), "images": len(command.images)}
        return details

    def _move(
        self, requirements: Sequence[Requirement], answered: Sequence[Requirement]
    ) -> tuple[Accepted, tuple[Event, ...]]:
        """Settle the calls as they were ``answered`` and move the run; ``requirements`` are all that it has."""
        run = self.run
        by_id = {call.tool_call_id: call for call in self._calls}
        for requirement in answered:
            if requirement.answer is not None:
                call = _decided(by_id[requirement.call_id], requirement, requirement.answer)
                if call != by_id[requirement.call_id]:
                    settle_tool_call(self.connection, run.id, call)
                    by_id[requirement.call_id] = call
        changes = {
            "events": 1,
            "updated_at": self.now,
            "content": None,
            "crashes": 0,
            **self.columns,
            "continued_at": self.now,
            "continued_by": self.principal.user_id,
            "continued_via": self.principal.via,
            "continued_decision": _decision_word(answered),
        }
        lease = None if self.slot is None else self.slot.rules.lease
        change = transition(self.connection, run.id, Trigger.CONTINUE, lease=lease, changes=changes)
        moved, has_inputs = change.run, change.has_inputs
        since = min((requirement.created_at for requirement in answered), default=run.updated_at)
        note_details(self.connection, waited_seconds=round((self.now - since).total_seconds(), 3))
        self._add_input()
        if change.has_targets:
            self._announce(moved, answered)
        event = Event(EventType.RUN_CONTINUED, self.now, self._payload(answered))
        events = add_events(self.connection, run.id, (event,), moved.last_sequence)
        if self.slot is not None:
            has_inputs = has_inputs or self._brings_input
            calls = tuple(by_id.values())
            self.slot.take_continued(self.connection, moved, calls, requirements, has_inputs=has_inputs)
        return Accepted(moved, run.last_sequence), events

    def _announce(self, run: Run, requirements: Sequence[Requirement]) -> None:
        """Store the webhook messages about what this request has decided."""
        open_before = {item.id for item in self.requirements if item.is_open}
        for item in requirements:
            if item.answer is not None and item.id in open_before:
                enqueue_decision(self.connection, run, item, item.answer)

    @property
    def _brings_input(self) -> bool:
        return self.command.prompt is not None or bool(self.command.images)

    def _add_input(self) -> None:
        """Keep what came with the decisions: prompt and images for the model, and the webhooks of the run."""
        prompt, images = self.command.prompt, self.command.images
        if self._brings_input:
            # The first one is the run's own prompt.
            position = 1 + max((item.position for item in list_inputs(self.connection, self.run.id)), default=0)
            added = RunInput(position, prompt or "", images)
            add_input(self.connection, self.run.id, added, self.principal.user_id, self.now)
        if self.command.webhooks is not None:
            set_run_targets(self.connection, self.run, self.command.webhooks, self.principal, self.now)

    def _payload(self, answered: Sequence[Requirement]) -> dict[str, Any]:
        """Return the event's payload: who continued the run, with which prompt and decisions."""
        payload: dict[str, Any] = {"pause_id": self.run.pause_id, "by": self.principal.user_id}
        if self.command.prompt is not None:
            payload["prompt"] = self.command.prompt
        payload["answers"] = [decision_payload(item, item.answer) for item in answered if item.answer is not None]
        return payload


def _decided(call: ToolCall, requirement: Requirement, answer: Answer) -> ToolCall:
    """Return the call as the decision leaves it: settled where nothing will run, else ready to run as decided."""
    if answer.decision is Decision.REJECTED:
        note = answer.note or DEFAULT_REJECTION
        return replace(
            call,
            status=CallStatus.FINISHED,
            outcome=Outcome.DENIED,
            result=note,
            result_text=note,
            finished_at=answer.at,
        )
    if requirement.kind is RequirementKind.EXTERNAL_EXECUTION:
        return replace(
            call,
            status=CallStatus.FINISHED,
            outcome=Outcome.SUCCESS,
            result=answer.result,
            result_text=answer.result,
            finished_at=answer.at,
        )
    if call.status is CallStatus.FINISHED:
        # What was asked is whether anybody gets its result: it has run.
        return call
    arguments = {**call.tool_args, **(answer.values or {})}
    return replace(call, status=CallStatus.PROPOSED, tool_args=arguments, started_at=None)


def _decision_word(answered: Sequence[Requirement]) -> str:
    decisions = {requirement.answer.decision for requirement in answered if requirement.answer is not None}
    return next(iter(decisions)).value if len(decisions) == 1 else "mixed" if decisions else "continued"
