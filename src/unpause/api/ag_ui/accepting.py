"""Decides what a run input means for its conversation: another run, a continue of the paused one, or a repetition."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import structlog
from pydantic_core import to_json

from unpause.api.ag_ui.routes import VIA
from unpause.api.ag_ui.wire.answers import answer_from, refuse_other_answers
from unpause.api.ag_ui.wire.inputs import (
    BETWEEN,
    frontend_of,
    list_new,
    read_prompt,
    results_in,
    text_of,
    without_known,
)
from unpause.api.ag_ui.wire.refusals import Refused, already_decided, open_interrupts, too_late, unknown_interrupts
from unpause.api.idempotency import read_request_key
from unpause.domain.conflicts import not_paused
from unpause.domain.repeats import contradicts, is_repeat
from unpause.domain.requirements import RequirementKind, ToolAnswer
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import Conflict, InvalidInput, RunInProgress, SessionNotFound
from unpause.services.commands import Accepted, ContinueRun, CreateRun
from unpause.services.decisions import decider_of
from unpause.services.threads import Thread, ThreadQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ag_ui.core import ResumeEntry, RunAgentInput

    from unpause.api.ag_ui.wire.inputs import Prompt
    from unpause.bootstrap import Application
    from unpause.domain.idempotency import RequestKey
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run

_log = structlog.get_logger(__name__)


def alias_key(principal: Principal, agent_id: str, run_id: str, **request: object) -> RequestKey:
    """Return the key of what a client calls ``run_id``, with a fingerprint of what it sent.

    Each user has names of their own, as for an Idempotency-Key.
    """
    name = hashlib.sha256(to_json([agent_id, run_id])).hexdigest()
    key = read_request_key(principal, f"{VIA} {name}", "ag_ui.run_agent", **request)
    if key is None:
        raise InvalidInput("runId is missing")
    return key


@dataclass(frozen=True)
class RunRequest:
    """One run input, for one agent."""

    application: Application
    principal: Principal
    agent_id: str
    sent: RunAgentInput

    async def accept(self) -> Accepted | Thread:
        """Do what the request asks for, once: return the run, and the number of the event to follow it from.

        Or return the conversation as it is, where the request adds nothing to that. Raises Refused where its state does
        not allow the request, and the errors of the service.
        """
        sent = self.sent
        if self.principal.session_id not in {None, sent.thread_id}:
            raise SessionNotFound(f"Session with ID {sent.thread_id} not found")
        refuse_other_answers(sent.resume or ())
        thread = await self._read()
        if thread.earlier is not None:
            return thread.earlier
        if self._live_entries(thread) or self._results(thread):
            return await self._continue(thread)
        if self._named(thread) or self._past_pause(thread):
            return self._late(thread)
        if sent.resume:
            # The specification has a run go on without answers that it never asked for.
            _log.warning("resume names unknown interrupts", run_id=sent.run_id, count=len(sent.resume))
        if thread.newest is not None and thread.newest.status is RunStatus.PAUSED:
            if not sent.resume and not list_new(sent.messages):
                # A client that has just opened the conversation.
                return thread
            raise Refused(open_interrupts(thread), thread)
        return await self._create(thread)

    async def _read(self) -> Thread:
        named = tuple(entry.interrupt_id for entry in self.sent.resume or ())
        query = ThreadQuery(self.sent.thread_id, self.agent_id, named, tuple(self._late_results))
        return await self.application.threads.read(self.principal, query, self._key)

    @cached_property
    def _key(self) -> RequestKey:
        sent = self.sent
        return alias_key(
            self.principal,
            self.agent_id,
            sent.run_id,
            thread_id=sent.thread_id,
            new=[message.model_dump(include={"content"}) for message in list_new(sent.messages)],
            resume=[entry.model_dump() for entry in sent.resume or ()],
            results=results_in(sent.messages),
        )

    # ---------------------------------------------------------------------------- a new run

    async def _create(self, thread: Thread) -> Accepted | Thread:
        newest = thread.newest
        if newest is not None and (self.sent.resume or not newest.status.is_final):
            # It repeats the messages so far, of which the last may be the prompt that the newest run has: one that runs
            # has not answered it, so who sends it again wants that answer.
            prompt = await self._follow_up(newest)
        else:
            prompt = await self._prompt(newest)
        if prompt is None:
            if self.sent.resume:
                raise unknown_interrupts(thread)
            if thread.newest is None:
                raise InvalidInput("messages has no new message of the user")
            if thread.newest.status.is_final:
                return thread
            # Where it runs, from the beginning of its present segment on.
            return Accepted(thread.newest, max(thread.ended_after.values(), default=0))
        if newest is not None and not newest.status.is_final:
            raise RunInProgress(newest.run_id, newest.status.value)
        sent = self.sent
        command = CreateRun(
            agent_id=self.agent_id,
            prompt=prompt.text,
            session_id=sent.thread_id,
            images=prompt.images,
            session_state=sent.state or None,
            metadata={"forwardedProps": sent.forwarded_props} if sent.forwarded_props else None,
            frontend=frontend_of(sent),
            in_turn=True,
        )
        try:
            return await self.application.service.create_run(self.principal, command, self._key)
        except RunInProgress:
            # Another request to this conversation was faster; it may have had the same message.
            return await self.accept()

    async def _prompt(self, known: Run | None) -> Prompt | None:
        """Return what is new of the user: nothing that the run has for its prompt already."""
        new = without_known(list_new(self.sent.messages), None if known is None else known.prompt)
        return await read_prompt(new, self.application.settings)

    # ---------------------------------------------------------------------------- a continue

    async def _continue(self, thread: Thread) -> Accepted | Thread:
        """Continue the paused run with the answers, which have to be about all that is open."""
        run, entries, results = thread.run, self._live_entries(thread), self._results(thread)
        if run is None:
            raise unknown_interrupts(thread)
        missing = [item for item in thread.open if item.id not in entries and item.id not in results]
        if missing:
            raise open_interrupts(thread, missing)
        resumed = self._resumed(thread)
        for item, answer in resumed:
            if item.answer is not None and contradicts(item, item.answer, answer):
                raise Refused(already_decided(item, run), thread)
        pause = entries.get(run.pause_id or "")
        if pause is not None and pause.status == "cancelled":
            return await self._cancel(run)
        given = {item.id: answer for item, answer in resumed}
        answers = [given.get(item.id) or results[item.id] for item in thread.open]
        prompt = await self._follow_up(run)
        command = ContinueRun(
            answers=tuple(answers),
            prompt=None if prompt is None else prompt.text,
            images=() if prompt is None else prompt.images,
            pause_id=run.pause_id,
            approves=True,
        )
        try:
            return await self.application.service.continue_run(self.principal, self._ref(run), command, self._key)
        except Conflict as error:
            # Somebody was faster; it may have been this client's own request before.
            return self._late(await self._read(), error)

    async def _follow_up(self, run: Run) -> Prompt | None:
        """Return what the user says beyond the prompt of this run: messages that it has not read."""
        new = list_new(self.sent.messages)
        texts = [text_of(message) for message in new]
        if run.prompt in {BETWEEN.join(texts), *texts[-1:]}:
            return None
        return await read_prompt(without_known(new, run.prompt), self.application.settings)

    async def _cancel(self, run: Run) -> Accepted | Thread:
        """Cancel a run that was paused on request: it waits for nothing that could be declined."""
        try:
            await self.application.service.cancel_run(self.principal, self._ref(run), run.pause_id)
        except Conflict as error:
            return self._late(await self._read(), error)
        return Accepted(run, run.last_sequence)

    def _ref(self, run: Run) -> RunRef:
        return RunRef(run_id=run.run_id, agent_id=self.agent_id, session_id=self.sent.thread_id)

    def _late(self, thread: Thread, error: Conflict | None = None) -> Accepted | Thread:
        """Return what the same answers did before; raise Refused where others were first."""
        named, past, run = self._named(thread), self._past_pause(thread), thread.run
        if run is None or not (named or past):
            raise error or unknown_interrupts(thread)
        if past and not named:
            return self._late_for_pause(thread, run, past)
        others = [item for item, sent in named if not self._was_mine(item, sent)]
        if others:
            raise Refused(already_decided(others[0], run), thread)
        after = thread.ended_after.get(named[0][0].pause_id)
        return thread if after is None else Accepted(run, after)

    def _late_for_pause(self, thread: Thread, run: Run, entry: ResumeEntry) -> Accepted:
        """Return how the pause ended that waited for no decision; raise Refused where others ended it otherwise."""
        after, last = thread.ended_after[entry.interrupt_id], run.continuation
        if run.status is RunStatus.CANCELLED and after == run.last_sequence - 1:
            is_repeated = entry.status == "cancelled"
        else:
            is_newest = after == max(thread.ended_after.values())
            is_mine = last is not None and (last.by, last.via) == (self.principal.user_id, VIA)
            is_repeated = entry.status == "resolved" and is_newest and is_mine
        if not is_repeated:
            raise Refused(too_late(not_paused(run)), thread)
        return Accepted(run, after)

    def _was_mine(self, requirement: Requirement, sent: ToolAnswer) -> bool:
        """Whether this caller gave the same answer before, or the same vote."""
        answer, user = requirement.answer, self.principal.user_id
        if answer is None:
            voter = decider_of(self.principal)
            return sent.confirmed is True and voter is not None and voter in {vote.by for vote in requirement.votes}
        return (answer.by, answer.via) == (user, VIA) and is_repeat(requirement, answer, sent)

    # ---------------------------------------------------------------------------- what the request names

    def _live_entries(self, thread: Thread) -> Mapping[str, ResumeEntry]:
        """Return the entries about the run's present pause, by the id of the interrupt."""
        run = thread.run
        if run is None or run.status is not RunStatus.PAUSED:
            return {}
        ids = {*(item.id for item in thread.present), *(() if thread.open or run.pause_id is None else (run.pause_id,))}
        return {entry.interrupt_id: entry for entry in self.sent.resume or () if entry.interrupt_id in ids}

    def _past_pause(self, thread: Thread) -> ResumeEntry | None:
        """Return the entry about an earlier pause of the run itself, if any, as of one that was paused on request."""
        return next((entry for entry in self.sent.resume or () if entry.interrupt_id in thread.ended_after), None)

    def _named(self, thread: Thread) -> Sequence[tuple[Requirement, ToolAnswer]]:
        """Return the requirements of the run that the request names, of whichever pause, with its answers to them."""
        resumed = self._resumed(thread)
        sent = {} if resumed else self._late_results
        return [*resumed] + [
            (item, ToolAnswer(item.tool_call_id, result=sent[item.call_id]))
            for item in thread.requirements
            if item.kind is RequirementKind.EXTERNAL_EXECUTION and item.call_id in sent
        ]

    def _resumed(self, thread: Thread) -> Sequence[tuple[Requirement, ToolAnswer]]:
        """Return the requirements of the run that ``resume`` names, of whichever pause, with its answers to them."""
        by_id = {item.id: item for item in thread.requirements}
        entries = [entry for entry in self.sent.resume or () if entry.interrupt_id in by_id]
        return [(by_id[entry.interrupt_id], answer_from(by_id[entry.interrupt_id], entry)) for entry in entries]

    @cached_property
    def _late_results(self) -> Mapping[str, str]:
        """The results that end the messages: where the user says nothing after them, the request is about them."""
        messages = self.sent.messages
        if list_new(messages):
            return {}
        last = max((number for number, message in enumerate(messages) if message.role == "assistant"), default=-1)
        return results_in(messages[last + 1 :])

    def _results(self, thread: Thread) -> Mapping[str, ToolAnswer]:
        """Return the results that messages bring of calls which are run elsewhere, by the id of the requirement.

        A message about any other call changes nothing: what that gave back is in the store.
        """
        sent = results_in(self.sent.messages)
        return {
            item.id: ToolAnswer(item.tool_call_id, result=sent[item.call_id])
            for item in thread.open
            if item.kind is RequirementKind.EXTERNAL_EXECUTION and item.call_id in sent
        }
