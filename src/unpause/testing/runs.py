"""A run of a test: what it waits for, what people decide, and how it ended."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from unpause.domain.arguments import is_same_json
from unpause.domain.events import EventType
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import UnpauseError
from unpause.services.commands import DecideRequirement, Verb
from unpause.testing.errors import WrongUse, near, refuse_no_text
from unpause.testing.transcripts import call_text, transcript_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from unpause.domain.events import Event
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import RunView

_DECIDER = "approver"


class RunServer(Protocol):
    """What a run needs of its server."""

    async def decide(self, command: DecideRequirement, by: str) -> None:
        """Decide a requirement."""
        ...

    async def cancel(self, run_id: str, by: str) -> None:
        """Cancel a run."""
        ...

    async def settled(self, ref: RunRef) -> tuple[RunView, tuple[Event, ...]] | None:
        """Return the run with its events once nobody executes it; None where the process has crashed before that."""
        ...

    def raise_problems(self, transcript: str) -> None:
        """Raise WrongUse for what was wrong with the script, once."""
        ...


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call that waits for people. ``kind`` is ``approval``, ``form``, ``result`` or ``question``.

    ``fields`` are those that people fill in, ``editable`` the arguments that they may change. A call ``in_doubt`` had
    started when its process died. ``votes`` are the people who have approved it, where it needs several.
    """

    id: str
    tool: str
    arguments: Mapping[str, Any]
    kind: str
    fields: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    in_doubt: bool = False
    expires_at: datetime | None = None
    votes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{call_text(self.tool, self.arguments)} for {self.kind}"


class Run:
    """One run. What it has is that of the last time that it paused or ended.

    ``approve`` and the other verbs send the run on once nothing of it waits any more, and return when it pauses or ends
    again. They decide the call that waits; where several do, ``call`` says which one: a tool's name, or one of
    ``waiting``. ``by`` is the person who decides, by default ``approver``.

    They raise ``WrongUse`` where no such call waits or has no such field. What the server refuses they raise as
    it is, with the run's transcript as a note: ``NotADecider`` and other kinds of ``Denied`` for a person who may not
    decide, ``AlreadyDecided`` for one who comes too late, ``RequirementMismatch`` for a value that the tool refuses.
    """

    def __init__(self, server: RunServer, view: RunView, events: Sequence[Event] = ()) -> None:
        self._server = server
        self._view = view
        self._events = tuple(events)

    def __repr__(self) -> str:
        return f"<Run {self.run_id}: {self.status}>"

    # ------------------------------------------------------------------ what it is

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._view.run.run_id

    @property
    def session_id(self) -> str:
        """The session of the run, for another one in it."""
        return self._view.run.session_id

    @property
    def status(self) -> str:
        """``PAUSED``, ``COMPLETED``, ``CANCELLED`` or ``ERROR``."""
        return self._view.run.status.value

    @property
    def output(self) -> Any:  # noqa: ANN401 - JSON
        """The text that the run ended with; for an agent with another output type its JSON value.

        Raises AssertionError, with the transcript, for a run that has not completed.
        """
        __tracebackhide__ = True
        self.assert_completed()
        run = self._view.run
        return run.content if run.content_type == "str" else json.loads(run.content or "null")

    @property
    def error(self) -> str | None:
        """Why the run ended as ERROR or CANCELLED; None for any other."""
        return self._view.run.content if self.status in {RunStatus.ERROR, RunStatus.CANCELLED} else None

    @property
    def waiting(self) -> tuple[WaitingCall, ...]:
        """The calls that the run waits for, in the order of the model."""
        if self._view.run.status is not RunStatus.PAUSED:
            return ()
        pause = self._view.run.pause_id
        return tuple(_waiting(each) for each in self._view.requirements if each.is_open and each.pause_id == pause)

    @property
    def reminders(self) -> int:
        """How many reminders were sent that the run waits."""
        return sum(event.type is EventType.PAUSE_REMINDER for event in self._events)

    @property
    def due(self) -> tuple[datetime, ...]:
        """The moments at which it is reminded of, or expires, as it waits now."""
        if self._view.run.status is not RunStatus.PAUSED:
            return ()
        moments = ((each.remind_at, each.expires_at) for each in self._view.requirements if each.is_open)
        return tuple(moment for pair in moments for moment in pair if moment is not None)

    @property
    def transcript(self) -> str:
        """What was said, called and decided, a line each; every failure shows it."""
        return transcript_of(self._view, self._events)

    # ------------------------------------------------------------------ what a test expects

    def assert_waits_for(self, tool: str, /, **arguments: object) -> WaitingCall:
        """Return the call of the tool that waits; fail unless one does that has these arguments, and perhaps others."""
        __tracebackhide__ = True
        for call in self.waiting:
            if call.tool == tool and all(
                name in call.arguments and is_same_json(call.arguments[name], value)
                for name, value in arguments.items()
            ):
                return call
        return self._fail(f"the run does not wait for {call_text(tool, arguments)}")

    def assert_in_doubt(self, tool: str | None = None) -> WaitingCall:
        """Return the call, of this tool or of any, that a crash has left in doubt; fail unless one waits."""
        __tracebackhide__ = True
        for call in self.waiting:
            if call.in_doubt and tool in {None, call.tool}:
                return call
        return self._fail("no call of the run is in doubt" if tool is None else f"no call of {tool!r} is in doubt")

    def assert_completed(self) -> None:
        """Fail unless the run has completed."""
        __tracebackhide__ = True
        if self._view.run.status is not RunStatus.COMPLETED:
            self._fail("the run has not completed")

    # ------------------------------------------------------------------ what people do

    async def approve(
        self, *, by: str = _DECIDER, note: str | None = None, call: WaitingCall | str | None = None
    ) -> Run:
        """Approve the call as it was shown; a call with a form needs ``fill``, one that runs elsewhere ``result``."""
        chosen = self._choose("approve", call)
        command = DecideRequirement(chosen.id, Verb.APPROVE, note=note)
        return await self._decide("approve", chosen, by, command)

    async def reject(
        self, note: str | None = None, *, by: str = _DECIDER, call: WaitingCall | str | None = None
    ) -> Run:
        """Reject the call; the model reads the note."""
        chosen = self._choose("reject", call)
        command = DecideRequirement(chosen.id, Verb.REJECT, note=note)
        return await self._decide("reject", chosen, by, command)

    async def fill(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        by: str = _DECIDER,
        note: str | None = None,
        call: WaitingCall | str | None = None,
        **fields: object,
    ) -> Run:
        """Fill in the call's form; a field named ``by``, ``note`` or ``call`` goes into ``values``."""
        return await self._approve_with("fill", {**(values or {}), **fields}, by, note, call)

    async def edit(
        self,
        values: Mapping[str, Any] | None = None,
        /,
        *,
        by: str = _DECIDER,
        note: str | None = None,
        call: WaitingCall | str | None = None,
        **arguments: object,
    ) -> Run:
        """Approve the call with other arguments, of those that its policy has people change."""
        return await self._approve_with("edit", {**(values or {}), **arguments}, by, note, call)

    async def result(self, value: object, *, by: str = _DECIDER, call: WaitingCall | str | None = None) -> Run:
        """Give the result of a call that runs elsewhere: text, or what becomes JSON."""
        text = value if isinstance(value, str) else json.dumps(value)
        chosen = self._choose("result", call)
        command = DecideRequirement(chosen.id, Verb.ANSWER, result=text)
        return await self._decide("result", chosen, by, command)

    async def answer(self, words: str, *, by: str = _DECIDER, call: WaitingCall | str | None = None) -> Run:
        """Answer a question of the model in words."""
        chosen = self._choose("answer", call)
        command = DecideRequirement(chosen.id, Verb.ANSWER, words=words)
        return await self._decide("answer", chosen, by, command)

    async def cancel(self, *, by: str = _DECIDER) -> Run:
        """Cancel the run; one that has ended stays as it is."""
        await self._server.cancel(self._view.run.run_id, by)
        return await self.refresh()

    async def refresh(self) -> Run:
        """Wait until nobody executes the run, and read its state."""
        seen = await self._server.settled(RunRef(run_id=self.run_id))
        if seen is not None:
            self._view, self._events = seen
        self._server.raise_problems(self.transcript)
        return self

    # ------------------------------------------------------------------ how

    async def _approve_with(
        self, verb: str, sent: dict[str, Any], by: str, note: str | None, call: WaitingCall | str | None
    ) -> Run:
        """Approve the call with values for its form, or with other arguments."""
        __tracebackhide__ = True
        chosen = self._choose(verb, call)
        fills = verb == "fill"
        if not (sent or fills):
            self._misused("edit() without arguments changes nothing: use approve()")
        self._refuse_unknown(verb, chosen, sent, (*chosen.fields, *chosen.editable) if fills else chosen.editable)
        command = DecideRequirement(
            chosen.id,
            Verb.APPROVE,
            note=note,
            values=sent if fills else None,
            arguments=None if fills else sent,
        )
        return await self._decide(verb, chosen, by, command)

    async def _decide(self, what: str, call: WaitingCall, by: str, command: DecideRequirement) -> Run:
        __tracebackhide__ = True
        refuse_no_text(what, by=by, note=command.note, words=command.words)
        try:
            await self._server.decide(command, by)
        except UnpauseError as error:
            error.add_note(f"{what}() of {call}\n{self.transcript}")
            raise
        return await self.refresh()

    def _choose(self, verb: str, call: WaitingCall | str | None) -> WaitingCall:
        """Return the call that is meant; raise WrongUse unless it is exactly one that waits."""
        __tracebackhide__ = True
        waiting = self.waiting
        if not waiting:
            self._misused(f"{verb}(): the run waits for nothing")
        if isinstance(call, WaitingCall):
            if call.id not in {each.id for each in waiting}:
                self._misused(f"{verb}(): the run does not wait for {call} any more")
            return call
        meant = [each for each in waiting if call in {None, each.tool}]
        if not meant:
            self._misused(f"{verb}(): the run does not wait for {call!r}: {near(str(call), [c.tool for c in waiting])}")
        if len(meant) > 1:
            listed = ", ".join(map(str, meant))
            self._misused(f"{verb}(): the run waits for {len(meant)} calls, so say call=…, one of: {listed}")
        return meant[0]

    def _refuse_unknown(self, verb: str, call: WaitingCall, sent: Mapping[str, Any], known: Sequence[str]) -> None:
        __tracebackhide__ = True
        for name in sent:
            if name not in known:
                what = "no such field" if verb == "fill" else "no argument that people may change"
                self._misused(f"{verb}({name}=…): {call.tool!r} has {what}: {near(name, known)}")

    def _misused(self, reason: str) -> NoReturn:
        __tracebackhide__ = True
        raise WrongUse(f"{reason}\n{self.transcript}")

    def _fail(self, reason: str) -> NoReturn:
        __tracebackhide__ = True
        raise AssertionError(f"{reason}\n{self.transcript}")


def _waiting(requirement: Requirement) -> WaitingCall:
    kinds = {
        RequirementKind.CONFIRMATION: "approval",
        RequirementKind.USER_INPUT: "form",
        RequirementKind.EXTERNAL_EXECUTION: "question" if requirement.question else "result",
    }
    return WaitingCall(
        id=requirement.id,
        tool=requirement.tool_name,
        arguments=requirement.tool_args,
        kind=kinds[requirement.kind],
        fields=tuple(field.name for field in requirement.fields if field.open),
        editable=requirement.changeable,
        in_doubt=requirement.in_doubt,
        expires_at=requirement.expires_at,
        votes=tuple(vote.by for vote in requirement.votes),
    )
