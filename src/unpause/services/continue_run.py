"""What one continue does to a paused run, inside its transaction."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, done_by
from unpause.domain.conflicts import not_paused
from unpause.domain.event_payloads import awaiting_text, decision_payload, pause_payload, pause_text
from unpause.domain.events import Event, EventType
from unpause.domain.requirements import (
    DEFAULT_REJECTION,
    Answer,
    Decision,
    Requirement,
    RequirementKind,
    ToolAnswer,
    match_answers,
)
from unpause.domain.runs import CallStatus, Outcome, Run, RunInput, RunStatus, ToolCall
from unpause.domain.transitions import Trigger
from unpause.errors import ApprovalPending, InvalidTransition, RequirementsOpen
from unpause.services.commands import Accepted
from unpause.services.decisions import Decisions
from unpause.services.value_checks import ValueChecks
from unpause.store.approvals import add_decided_approval
from unpause.store.audit import add_entries
from unpause.store.events import add_events
from unpause.store.journal import add_input, list_inputs, list_tool_calls, settle_tool_call
from unpause.store.runs import append_to_log, transition
from unpause.webhooks.outbox import choose_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from unpause.domain.principal import Principal
    from unpause.services.commands import ContinueRun
    from unpause.store.engine.database import Connection


@dataclass(frozen=True, slots=True)
class ContinueHandler:
    """One continue: who asks, for what, when; ``model`` are the columns of another model for the rest of the run.

    ``checks`` are the values that the tools have checked.
    """

    principal: Principal
    command: ContinueRun
    now: datetime
    model: Mapping[str, str] = field(default_factory=dict)
    checks: ValueChecks = field(default_factory=ValueChecks)

    def apply(
        self, connection: Connection, run: Run, requirements: Sequence[Requirement]
    ) -> tuple[Accepted, tuple[Event, ...]]:
        """Keep the answers and move the run if nothing is open any more; return what happened and the new events.

        ``requirements`` are all of the run's, none of its present pause expired.

        The order of the checks is that of the contract (agno.md section 2, design section 5).
        """
        if run.status is not RunStatus.PAUSED:
            raise not_paused(run)
        if self.command.pause_id is not None and self.command.pause_id != run.pause_id:
            raise _late(run)
        present = [requirement for requirement in requirements if requirement.pause_id == run.pause_id]
        if any(requirement.awaits_approval for requirement in present):
            raise ApprovalPending
        answers = self._answers(connection, run, requirements, present)
        self._audit_words(connection, run, decides=bool(answers))
        return self.decide(connection, run, requirements, answers)

    def decide(
        self, connection: Connection, run: Run, requirements: Sequence[Requirement], answers: dict[str, Answer]
    ) -> tuple[Accepted, tuple[Event, ...]]:
        """Keep the answers, by requirement id, and move the paused run if nothing of its pause is open any more."""
        by_id = {requirement.id: requirement for requirement in requirements}
        deciding = Decisions(connection, run, self.principal, self.now)
        decided = {key: deciding.decide(by_id[key], answer) for key, answer in answers.items()}
        deciding.finish()
        after = [decided.get(requirement.id, requirement) for requirement in requirements]
        present = [requirement for requirement in after if requirement.pause_id == run.pause_id]
        calls = list_tool_calls(connection, run.id)
        still_open = [requirement for requirement in present if requirement.is_open]
        if still_open:
            return self._stay(connection, run, calls, after, still_open)
        self._audit(connection, run, present)
        return self._move(connection, run, calls, present)

    def _answers(
        self,
        connection: Connection,
        run: Run,
        requirements: Sequence[Requirement],
        present: Sequence[Requirement],
    ) -> dict[str, Answer]:
        """Return what the request says, by requirement id: the answers, and of the rest what a prompt means for it."""
        prompt = self.command.prompt
        answers: dict[str, Answer] = {}
        if self.command.answers or prompt is None:
            answers = self._given(connection, run, requirements, present)
        if prompt is None:
            return answers
        rest = (item for item in present if item.is_open and item.id not in answers)
        return {**answers, **{item.id: self._from_prompt(item, prompt) for item in rest}}

    def _given(
        self,
        connection: Connection,
        run: Run,
        requirements: Sequence[Requirement],
        present: Sequence[Requirement],
    ) -> dict[str, Answer]:
        calls = list_tool_calls(connection, run.id) if self.command.answers else []
        known = {call.tool_call_id for call in calls} | {requirement.tool_call_id for requirement in requirements}
        try:
            matched = match_answers(present, self.command.answers, frozenset(known))
        except InvalidTransition:
            if present or not self._is_of_now(calls, requirements):
                raise _late(run) from None
            return {}
        except RequirementsOpen:
            if self.command.prompt is None:
                raise
            return {}
        by_id = {requirement.id: requirement for requirement in present}
        deciding = Decisions(connection, run, self.principal, self.now)
        for key, said in matched.items():
            if said.values:
                # Before a tool's author's code is run for somebody who decides nothing.
                deciding.refuse_others(by_id[key])
        return {key: self.answer(by_id[key], self.checks.take(run, by_id[key], said)) for key, said in matched.items()}

    def _is_of_now(self, calls: Sequence[ToolCall], requirements: Sequence[Requirement]) -> bool:
        """Whether what was sent to a run paused on request echoes this pause, and not an earlier one once more.

        It does where it names the pause; or a call that has not run, and that nobody was ever asked about; or the
        result of a call that people were asked about, which only came after.
        """
        if self.command.pause_id is not None:
            return True
        by_id = {call.tool_call_id: call for call in calls}
        asked = {item.call_id: item for item in requirements}
        for said in self.command.answers:
            call, wanted = by_id.get(said.tool_call_id), asked.get(said.tool_call_id)
            if call is None:
                continue
            if wanted is None and call.status is not CallStatus.FINISHED:
                return True
            brought = wanted is None or wanted.kind is RequirementKind.EXTERNAL_EXECUTION
            if call.status is CallStatus.FINISHED and said.result is not None and not brought:
                return True
        return False

    def answer(self, requirement: Requirement, said: ToolAnswer) -> Answer:
        """Return what was said, which fits the requirement, as a decision of the one who asks."""
        if said.confirmed is False:
            decision = Decision.REJECTED
        elif requirement.kind is RequirementKind.CONFIRMATION:
            decision = Decision.CONFIRMED
        else:
            decision = Decision.ANSWERED
        return Answer(
            decision=decision,
            at=self.now,
            note=said.note,
            values=dict(said.values) if said.values else None,
            result=said.result if decision is Decision.ANSWERED else None,
            by=self.principal.user_id,
            via=self.principal.via,
        )

    def _from_prompt(self, requirement: Requirement, prompt: str) -> Answer:
        """Return what the user's words mean for this requirement: an answer to a question, else a no with a note."""
        asked = requirement.question
        return Answer(
            decision=Decision.ANSWERED if asked else Decision.REJECTED,
            at=self.now,
            note=None if asked else prompt or None,
            result=prompt if asked else None,
            by=self.principal.user_id,
            via=self.principal.via,
        )

    def _stay(
        self,
        connection: Connection,
        run: Run,
        calls: Sequence[ToolCall],
        requirements: Sequence[Requirement],
        still_open: Sequence[Requirement],
    ) -> tuple[Accepted, tuple[Event, ...]]:
        payload = pause_payload(run.pause_id or "", pause_text(still_open), calls, requirements)
        changes = {"awaiting": awaiting_text(still_open), **self.model}
        last = append_to_log(connection, run.id, 1, self.now, changes)
        self._keep(connection, run)
        events = add_events(connection, run.id, (Event(EventType.RUN_PAUSED, self.now, payload),), last)
        return Accepted(run, run.last_sequence, moved=False), events

    def _audit(self, connection: Connection, run: Run, answered: Sequence[Requirement]) -> None:
        """Keep a record of the user's own decisions where the tool's author wants one."""
        for requirement in answered:
            if requirement.approval == "audit" and requirement.answer is not None:
                rejected = requirement.answer.decision is Decision.REJECTED
                status = ApprovalStatus.REJECTED if rejected else ApprovalStatus.APPROVED
                add_decided_approval(connection, run, requirement, status)

    def _audit_words(self, connection: Connection, run: Run, *, decides: bool) -> None:
        """Keep a record of who sends the run on without a decision, or has more to say than that.

        What is decided is in the trail anyway, with the words for a reason where they decide it.
        """
        command = self.command
        has_words = bool(command.prompt or command.images)
        if decides and command.model is None and not (has_words and command.answers):
            return
        # Not the words: they are in the run's log, and go with it.
        told: dict[str, Any] = {} if command.model is None else {"model": command.model}
        if has_words:
            told |= {"prompt_characters": len(command.prompt or ""), "images": len(command.images)}
        done = done_by(
            self.principal, AuditAction.CONTINUED, self.now, run_id=run.run_id, subject=run.run_id, details=told or None
        )
        add_entries(connection, [done])

    def _move(
        self, connection: Connection, run: Run, calls: Sequence[ToolCall], answered: Sequence[Requirement]
    ) -> tuple[Accepted, tuple[Event, ...]]:
        by_id = {call.tool_call_id: call for call in calls}
        for requirement in answered:
            if requirement.answer is not None:
                settle_tool_call(
                    connection, run.id, _decided(by_id[requirement.call_id], requirement, requirement.answer)
                )
        changes = {
            "events": 1,
            "updated_at": self.now,
            "content": None,
            "pause_requested_at": None,
            "crashes": 0,
            **self.model,
            "continued_at": self.now,
            "continued_by": self.principal.user_id,
            "continued_via": self.principal.via,
            "continued_decision": _decision_word(answered),
        }
        moved = transition(connection, run.id, Trigger.CONTINUE, changes=changes)
        self._keep(connection, run)
        event = Event(EventType.RUN_CONTINUED, self.now, self._told(run, answered))
        events = add_events(connection, run.id, (event,), moved.last_sequence)
        return Accepted(moved, run.last_sequence), events

    def _keep(self, connection: Connection, run: Run) -> None:
        """Keep what came with the decisions: the user's words and pictures for the model, and who hears of the run."""
        prompt, images = self.command.prompt, self.command.images
        if prompt is not None or images:
            given = RunInput(len(list_inputs(connection, run.id)), prompt or "", images)
            add_input(connection, run.id, given, self.principal.user_id, self.now)
        if self.command.webhooks is not None:
            choose_targets(connection, run, self.command.webhooks, self.principal, self.now)

    def _told(self, run: Run, answered: Sequence[Requirement]) -> dict[str, Any]:
        """Return what the event says: who continued the run, with which words and decisions."""
        prompt = self.command.prompt
        told: dict[str, Any] = {"pause_id": run.pause_id, "by": self.principal.user_id}
        if prompt is not None:
            told["prompt"] = prompt
        told["answers"] = [decision_payload(item, item.answer, prompt) for item in answered if item.answer is not None]
        return told


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
    arguments = {**call.tool_args, **(answer.values or {})}
    return replace(call, status=CallStatus.PROPOSED, tool_args=arguments, started_at=None)


def _decision_word(answered: Sequence[Requirement]) -> str:
    decisions = {requirement.answer.decision for requirement in answered if requirement.answer is not None}
    return next(iter(decisions)).value if len(decisions) == 1 else "mixed" if decisions else "continued"


def _late(run: Run) -> InvalidTransition:
    details = run.continuation.as_details() if run.continuation is not None else {}
    return InvalidTransition("run is already continued", run.status.value, {"status": run.status.value, **details})
