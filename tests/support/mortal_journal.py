"""A journal in memory whose process dies at a commit, and what the server does between the segments of such a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.support.databases import NOW
from unpause.agents.driver import (
    AgentDriver,
    CallResult,
    Completed,
    NewMessage,
    OwnDecision,
    Paused,
    ProposedCall,
    RequirementRequest,
    Segment,
    SegmentEnd,
)
from unpause.domain.events import EventType
from unpause.domain.requirements import Answer, Decision, Requirement, RequirementKind
from unpause.domain.runs import SETUP_COMMANDS, CallKind, CallStatus, Outcome, Run, RunInput, RunStatus, ToolCall


class Died(BaseException):
    """The process is gone: nothing that catches errors sees it."""


class MortalJournal:
    """Implements ``agents.driver.Journal``: what is noted is kept at the next commit.

    It dies at commit number ``dies_at``, counted from 1 over all segments: before it, or ``after`` it. Then nothing is
    kept any more until the next segment, whoever caught the death; ``doubts`` are the calls that were in doubt at one.
    """

    def __init__(self, run: Run, dies_at: int = 0, *, after: bool = False) -> None:
        self.stop_requested = False
        self.commits = 0
        self._run = run
        self._dies_at = dies_at
        self._after = after
        self.is_dead = False
        self.doubts: list[ToolCall] = []
        self._kept: tuple[dict[str, ToolCall], tuple[Any, ...], bool] = ({}, (), False)
        self._calls: dict[str, ToolCall] = {}
        self._messages: tuple[Any, ...] = ()
        self._heard = False

    def segment(self) -> Segment:
        """Return what a new claim finds."""
        self.is_dead = False
        self._calls, self._messages, self._heard = dict(self._kept[0]), *self._kept[1:]
        calls = sorted(self._calls.values(), key=lambda call: (call.turn, call.position))
        inputs = () if self._heard else (RunInput(0, self._run.prompt),)
        return Segment(self._run, messages=self._messages, calls=tuple(calls), inputs=inputs)

    def decide(self, call_id: str, **changes: Any) -> None:  # noqa: ANN401 - any column of a call
        """Change a call as a continue does."""
        self._calls[call_id] = replace(self._calls[call_id], **changes)
        self._keep()

    def commit(self) -> None:
        """Keep everything that happened so far, unless this is where the process dies."""
        if self.is_dead:
            raise Died
        self.commits += 1
        self.is_dead = self.commits == self._dies_at
        if not self.is_dead or self._after:
            self._keep()
        if self.is_dead:
            raise Died

    def end(self, end: SegmentEnd) -> None:
        """Commit the end of a segment."""
        if isinstance(end, Completed):
            self.record_turn(end.messages, ())
        self.commit()

    def confirm(self, call_id: str) -> None:
        """Say yes to a call that waits, or is in doubt."""
        call = self._calls[call_id]
        requirement = Requirement(
            id=f"about-{call_id}",
            pause_id="pause",
            tool_call_id=call_id,
            call_id=call_id,
            tool_name=call.tool_name,
            tool_args=call.tool_args,
            kind=RequirementKind.CONFIRMATION,
            created_at=NOW,
            answer=Answer(Decision.CONFIRMED, NOW),
        )
        if call.in_doubt:
            self.doubts.append(call)
        self.decide(call_id, status=CallStatus.PROPOSED, requirement=requirement)

    def _keep(self) -> None:
        self._kept = (dict(self._calls), self._messages, self._heard)

    def on_stop(self, notify: Callable[[], None]) -> None:
        """Nobody is told: the driver looks itself."""

    def request_release(self) -> None:
        """Nobody goes on with it."""

    def measure(self, meter: Callable[[], Mapping[str, int]]) -> None:
        """Take no notice: nothing here is limited."""
        del meter

    async def emit(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        """Commit, as the background task of a segment may at any event."""
        del event_type, payload
        self.commit()

    def record_turn(self, messages: Sequence[NewMessage], calls: Sequence[ProposedCall]) -> None:
        """Append messages and calls."""
        turn = 1 + max((call.turn for call in self._calls.values()), default=-1)
        self._messages += tuple(message.native for message in messages)
        self._heard = True
        for position, made in enumerate(calls):
            call = ToolCall(made.tool_call_id, made.tool_name, made.tool_args, turn, position, NOW)
            self._calls[call.tool_call_id] = call

    def propose_output(self, call: ProposedCall) -> None:
        """Add what processes an answer."""
        if call.tool_call_id not in self._calls:
            self.record_turn((), (call,))
            self._calls[call.tool_call_id] = replace(self._calls[call.tool_call_id], kind=CallKind.OUTPUT)

    def show_call(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        """Note what is shown of a call."""
        self._calls[call_id] = replace(self._calls[call_id], tool_args=arguments, sent_args=sent)

    def record_own_decision(self, call_id: str, own: OwnDecision) -> None:
        """Keep no trail."""

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        """Note the start."""
        self._calls[call_id] = replace(self._calls[call_id], status=CallStatus.STARTED, idempotent=idempotent)
        self.commit()

    async def find_grant(self, request: RequirementRequest) -> bool:
        """Know of no grant."""
        del request
        return False

    async def start_granted_call(self, request: RequirementRequest, *, idempotent: bool) -> bool:
        """Know of no grant."""
        del request, idempotent
        return False

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        """Note the end."""
        self.finish_call_soon(call_id, result)

    def finish_call_soon(self, call_id: str, result: CallResult) -> None:
        """Note the end at once."""
        self._finish(call_id, result)
        self.commit()

    async def flush(self) -> None:
        """Have nothing to wait for."""

    def settle_call(self, call_id: str, result: CallResult) -> None:
        """Note the end of a call, unless it is known."""
        if self._calls[call_id].status is not CallStatus.FINISHED:
            self._finish(call_id, result)

    def _finish(self, call_id: str, result: CallResult) -> None:
        self._calls[call_id] = replace(
            self._calls[call_id],
            status=CallStatus.FINISHED,
            outcome=result.outcome,
            result=result.value,
            result_text=result.text if result.is_final else None,
        )

    async def defer_call(self, call_id: str) -> None:
        """Take a start back."""
        self._calls[call_id] = replace(self._calls[call_id], status=CallStatus.PROPOSED)
        self.commit()


async def run_to_the_end(driver: AgentDriver, journal: MortalJournal, answers: Mapping[str, str]) -> SegmentEnd:
    """Execute segments until the run ends, through its one death.

    What waits for a yes or is in doubt is confirmed; a question is answered with the first of ``answers`` whose key is
    in its message.
    """
    while True:
        segment = journal.segment()
        for doubtful in (call for call in segment.calls if call.in_doubt):
            journal.confirm(doubtful.tool_call_id)
        try:
            end = await driver.run_segment(journal.segment(), journal)
            journal.end(end)
        except Died:
            continue
        if not isinstance(end, Paused):
            return end
        for request in end.requests:
            if request.kind is RequirementKind.CONFIRMATION:
                journal.confirm(request.call_id)
                continue
            text = next(answer for key, answer in answers.items() if key in (request.message or ""))
            done = {"status": CallStatus.FINISHED, "outcome": Outcome.SUCCESS, "result": text, "result_text": text}
            journal.decide(request.call_id, **done)


def setup_run(prompt: str, repo_id: int) -> Run:
    """Return a run that prepares a repository."""
    return Run(
        id=1,
        run_id="run",
        organization_id=1,
        session_key=1,
        session_id="session",
        agent_id="setup-commands",
        status=RunStatus.RUNNING,
        source_type=SETUP_COMMANDS,
        prompt=prompt,
        fence=1,
        last_sequence=1,
        created_at=NOW,
        updated_at=NOW,
        repo_id=repo_id,
    )
