"""A run's events as AG-UI's: what was opened is closed, and a segment is one run of the protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ag_ui.core import (
    PROTOCOL_VERSION,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateSnapshotEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)
from pydantic_core import from_json, to_json

from unpause.api.ag_ui.wire.interrupts import is_of_frontend, outcome_of
from unpause.domain.event_payloads import read_call, read_calls, read_requirements
from unpause.domain.events import Event, EventType
from unpause.domain.requirements import DEFAULT_REJECTION, Decision, RequirementKind
from unpause.domain.runs import CallStatus, Outcome, Run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ag_ui.core import BaseEvent

    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import ToolCall


@dataclass(frozen=True, slots=True)
class Names:
    """The ids that a request's events carry: the client's own, also where they continue an earlier run."""

    thread_id: str
    run_id: str
    # Whether the client says so; those that do not fail at members that 1.0 added.
    speaks_1_0: bool = True


@dataclass(slots=True)
class _Open:
    """What of the present run of the protocol is open."""

    text: str | None = None
    reasoning: str | None = None
    # The message that the next calls belong to, and whether the model's present answer has any text.
    answer: str | None = None
    has_text: bool = False
    # Whether nothing has happened yet.
    is_fresh: bool = True


@dataclass(slots=True)
class Translator:
    """Translates a run's events, from the first one of a segment on, in their order.

    It always does so in the same way: a stream that is read again has the same events.
    """

    run: Run
    names: Names
    requirements: tuple[Requirement, ...] = ()
    _is_running: bool = False
    _open: _Open = field(default_factory=_Open)
    # The calls that this stream has shown.
    _shown: set[str] = field(default_factory=set)

    def translate(self, event: Event) -> Iterator[BaseEvent]:
        """Yield what the event means; nothing for one that the protocol has no word for."""
        translate = _TRANSLATIONS.get(event.type)
        if translate is None:
            return
        if not self._is_running:
            self._is_running = True
            self._open = _Open()
            yield from self._start()
        yield from translate(self, event)
        self._open.is_fresh = False
        if event.type.ends_segment:
            self._is_running = False

    def _start(self) -> Iterator[BaseEvent]:
        yield RunStartedEvent(
            thread_id=self.names.thread_id,
            run_id=self.names.run_id,
            protocol_version=PROTOCOL_VERSION,
            metadata={"unpause": {"runId": self.run.run_id}},
        )
        yield StateSnapshotEvent(snapshot=self.run.session_state or {})

    def _close(self) -> Iterator[BaseEvent]:
        """End the message that is open, if any."""
        if self._open.text is not None:
            yield TextMessageEndEvent(message_id=self._open.text)
        if self._open.reasoning is not None:
            yield ReasoningMessageEndEvent(message_id=self._open.reasoning)
            yield ReasoningEndEvent(message_id=self._open.reasoning)
        self._open.text = self._open.reasoning = None

    def _id(self, event: Event) -> str:
        return f"{self.run.run_id}-{event.sequence}"

    # ---------------------------------------------------------------------------- segment

    def continued(self, event: Event) -> Iterator[BaseEvent]:
        """Show how the calls ended that will not run here: they were declined, or run elsewhere."""
        by_shown_id = {item.tool_call_id: item for item in self.requirements}
        prompt = event.payload.get("prompt")
        for answer in event.payload.get("answers", ()):
            requirement = by_shown_id.get(answer["tool_call_id"])
            call_id = answer["tool_call_id"] if requirement is None else requirement.call_id
            if requirement is not None and is_of_frontend(self.run, requirement):
                # The client's own message has its result.
                continue
            if answer["decision"] == Decision.REJECTED:
                yield self._result(call_id, answer.get("note") or prompt or DEFAULT_REJECTION, Outcome.DENIED)
            elif requirement is not None and requirement.kind is RequirementKind.EXTERNAL_EXECUTION:
                yield self._result(call_id, answer.get("result") or prompt or "", Outcome.SUCCESS)

    def paused(self, event: Event) -> Iterator[BaseEvent]:
        """Show the calls that wait, and end with an interrupt for each open requirement."""
        yield from self._close()
        pause_id, requirements = event.payload["pause_id"], read_requirements(event.payload)
        before = {item.call_id for item in requirements if item.pause_id != pause_id}
        waiting = {item.call_id for item in requirements if item.pause_id == pause_id and item.is_open}
        # After an answer that was not the last one it is the same pause again, whose calls were shown.
        for call in () if self._open.is_fresh else read_calls(event.payload):
            if call.tool_call_id in waiting - before and call.status is not CallStatus.STARTED:
                yield from self._show(call)
        self.requirements = requirements
        yield RunFinishedEvent(**self._ids, outcome=outcome_of(self.run, pause_id, requirements))

    def completed(self, event: Event) -> Iterator[BaseEvent]:
        """End with the run's result."""
        yield from self._close()
        content, content_type = event.payload["content"], event.payload["content_type"]
        if content and not self._open.has_text:
            # An answer of another type than text was not streamed.
            yield from self._whole_text(self._id(event), content)
        result = from_json(content) if content and content_type != "str" else content
        yield RunFinishedEvent(**self._ids, result=result, outcome=RunFinishedSuccessOutcome())

    def failed(self, event: Event) -> Iterator[BaseEvent]:
        """End with the error; it closes whatever is open."""
        yield from self._close()
        yield RunErrorEvent(message=event.payload["content"], code=event.payload["reason"])

    def cancelled(self, _event: Event) -> Iterator[BaseEvent]:
        """End as stopped, which is neither a success nor a failure."""
        yield from self._close()
        yield RunFinishedEvent(**self._ids, outcome=RunFinishedCancelledOutcome())

    @property
    def _ids(self) -> dict[str, Any]:
        return {"thread_id": self.names.thread_id, "run_id": self.names.run_id}

    # ---------------------------------------------------------------------------- the model's answer

    def requested(self, event: Event) -> Iterator[BaseEvent]:
        """Begin another answer of the model; one that broke off ends here."""
        yield from self._close()
        self._open.answer, self._open.has_text = self._id(event), False

    def delta(self, event: Event) -> Iterator[BaseEvent]:
        """Add a piece of text or of a thought."""
        thought, text = event.payload.get("reasoning"), event.payload["content"]
        if thought:
            yield from self._think(event, thought)
        if text:
            yield from self._say(event, text)

    def _think(self, event: Event, thought: str) -> Iterator[BaseEvent]:
        if self._open.reasoning is None:
            yield from self._close()
            self._open.reasoning = self._id(event)
            yield ReasoningStartEvent(message_id=self._open.reasoning)
            yield ReasoningMessageStartEvent(message_id=self._open.reasoning)
        yield ReasoningMessageContentEvent(message_id=self._open.reasoning, delta=thought)

    def _say(self, event: Event, text: str) -> Iterator[BaseEvent]:
        if self._open.text is None:
            yield from self._close()
            self._open.text = self._open.answer = self._id(event)
            self._open.has_text = True
            yield TextMessageStartEvent(message_id=self._open.text, role="assistant")
        yield TextMessageContentEvent(message_id=self._open.text, delta=text)

    def _whole_text(self, message_id: str, text: str) -> Iterator[BaseEvent]:
        yield TextMessageStartEvent(message_id=message_id, role="assistant")
        yield TextMessageContentEvent(message_id=message_id, delta=text)
        yield TextMessageEndEvent(message_id=message_id)

    def answered(self, _event: Event) -> Iterator[BaseEvent]:
        """End the model's answer."""
        yield from self._close()

    # ---------------------------------------------------------------------------- tool calls

    def call_started(self, event: Event) -> Iterator[BaseEvent]:
        """Show the call, unless it was shown while it waited."""
        yield from self._close()
        call = read_call(event.payload)
        has_waited = call.requirement is not None and not call.requirement.is_granted
        if not has_waited:
            yield from self._show(call)

    def call_completed(self, event: Event) -> Iterator[BaseEvent]:
        """Show what the call gave back."""
        call = read_call(event.payload)
        yield self._result(call.tool_call_id, call.result_text or "", call.outcome or Outcome.SUCCESS)

    def _show(self, call: ToolCall) -> Iterator[BaseEvent]:
        if call.tool_call_id in self._shown:
            return
        self._shown.add(call.tool_call_id)
        yield ToolCallStartEvent(
            tool_call_id=call.tool_call_id, tool_call_name=call.tool_name, parent_message_id=self._open.answer
        )
        yield ToolCallArgsEvent(tool_call_id=call.tool_call_id, delta=to_json(call.tool_args).decode())
        yield ToolCallEndEvent(tool_call_id=call.tool_call_id)

    def _result(self, call_id: str, text: str, outcome: Outcome) -> BaseEvent:
        failed = outcome is not Outcome.SUCCESS
        return ToolCallResultEvent(
            message_id=f"{self.run.run_id}-{call_id}",
            tool_call_id=call_id,
            content=text,
            role="tool",
            metadata={"unpause": {"outcome": outcome.value}} if failed else None,
        )


_TRANSLATIONS: Mapping[EventType, Callable[[Translator, Event], Iterator[BaseEvent]]] = {
    EventType.RUN_STARTED: lambda _translator, _event: iter(()),
    EventType.RUN_CONTINUED: Translator.continued,
    EventType.MODEL_REQUEST_STARTED: Translator.requested,
    EventType.MODEL_REQUEST_COMPLETED: Translator.answered,
    EventType.CONTENT_DELTA: Translator.delta,
    EventType.CONTENT_COMPLETED: Translator.answered,
    EventType.TOOL_CALL_STARTED: Translator.call_started,
    EventType.TOOL_CALL_COMPLETED: Translator.call_completed,
    EventType.RUN_PAUSED: Translator.paused,
    EventType.RUN_COMPLETED: Translator.completed,
    EventType.RUN_FAILED: Translator.failed,
    EventType.RUN_CANCELLED: Translator.cancelled,
}
