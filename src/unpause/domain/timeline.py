"""What happened in a run, made from its log and its requirements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from unpause.domain.deciders import Vote
from unpause.domain.event_payloads import read_call
from unpause.domain.events import Event, EventType
from unpause.domain.requirements import Answer, Requirement
from unpause.domain.runs import Run, RunStatus, ToolCall
from unpause.domain.spans import Span, SpanKind, spans_of

_ENDS = {
    EventType.RUN_COMPLETED: RunStatus.COMPLETED,
    EventType.RUN_FAILED: RunStatus.ERROR,
    EventType.RUN_CANCELLED: RunStatus.CANCELLED,
}
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


class EntryKind(StrEnum):
    """What an entry is about."""

    MESSAGE = "message"
    MODEL = "model"
    TOOL = "tool"
    PAUSE = "pause"
    VOTE = "vote"
    DECISION = "decision"
    REMINDER = "reminder"
    CONTINUE = "continue"
    END = "end"


@dataclass(slots=True)
class Entry:
    """One thing that happened; ``seconds`` is how long it took, None for a moment and for what goes on."""

    kind: EntryKind
    at: datetime
    seconds: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The entries in order, the spans, and whether there are more events than were read."""

    run: Run
    entries: list[Entry]
    spans: list[Span]
    is_truncated: bool = False

    def total(self, kind: SpanKind) -> float:
        """Return the seconds of all spans of a kind."""
        return sum(span.seconds for span in self.spans if span.kind is kind)


def timeline_of(
    run: Run, events: Sequence[Event], requirements: Sequence[Requirement], images: dict[int, int], now: datetime
) -> Timeline:
    """Return the timeline of a run; ``images`` counts the pictures of each prompt, the run's own being number 0."""
    writer = _Writer(run, requirements, images)
    for event in events:
        writer.add(event)
    writer.finish()
    return Timeline(run, writer.entries, spans_of(events, now))


class _Writer:
    """Writes the entries in the order in which things happened."""

    def __init__(self, run: Run, requirements: Iterable[Requirement], images: dict[int, int]) -> None:
        self.entries: list[Entry] = []
        self._run = run
        self._images = images
        self._prompts = 0
        self._model: Entry | None = None
        self._calls: dict[str, Entry] = {}
        self._pause: Entry | None = None
        self._requirements = list(requirements)
        # Of the pauses so far, in order, those that are not among the entries yet.
        self._decisions: list[Entry] = []

    def add(self, event: Event) -> None:
        """Add what the event adds, after the decisions before it."""
        self._write_decisions(event.at)
        match event.type:
            case EventType.RUN_STARTED:
                self._write_prompt(event.at, self._run.prompt, self._run.user_id)
            case EventType.MODEL_REQUEST_STARTED:
                self._model = self._write(EntryKind.MODEL, event.at, model=event.payload.get("model"))
            case EventType.MODEL_REQUEST_COMPLETED:
                self._end_request(event)
            case EventType.TOOL_CALL_STARTED:
                call = read_call(event.payload)
                self._calls[call.tool_call_id] = self._write(EntryKind.TOOL, event.at, **_call(call))
            case EventType.TOOL_CALL_COMPLETED:
                self._end_call(event)
            case EventType.RUN_PAUSED:
                self._begin_pause(event)
            case EventType.PAUSE_REMINDER:
                self._write(EntryKind.REMINDER, event.at)
            case EventType.RUN_CONTINUED:
                self._go_on(event)
            case EventType.RUN_COMPLETED | EventType.RUN_FAILED | EventType.RUN_CANCELLED:
                self._end(event)
            case _:
                pass

    def finish(self) -> None:
        """Write the decisions after the last event: those of a run that still waits for others."""
        self._write_decisions(None)

    def _write(self, kind: EntryKind, at: datetime, **details: Any) -> Entry:  # noqa: ANN401 - any JSON
        entry = Entry(kind, at, details={key: value for key, value in details.items() if value is not None})
        self.entries.append(entry)
        return entry

    def _write_prompt(self, at: datetime, text: str, by: str | None) -> None:
        number, self._prompts = self._prompts, self._prompts + 1
        details = {"role": "user", "text": text, "by": by, "prompt": number}
        self._write(EntryKind.MESSAGE, at, **details, images=self._images.get(number, 0))

    def _end_request(self, event: Event) -> None:
        payload = event.payload
        if self._model is not None:
            self._model.seconds = _between(self._model.at, event.at)
            self._model.details |= {name: payload[name] for name in _TOKENS if payload.get(name)}
            self._model = None
        if payload.get("said"):
            self._write(EntryKind.MESSAGE, event.at, role="assistant", text=payload["said"])

    def _end_call(self, event: Event) -> None:
        call = read_call(event.payload)
        entry = self._calls.pop(call.tool_call_id, None)
        if entry is None:
            # It never ran here: it was rejected, or executed elsewhere.
            self._write(EntryKind.TOOL, event.at, **_call(call))
            return
        entry.seconds = _between(entry.at, event.at)
        entry.details |= _call(call)

    def _begin_pause(self, event: Event) -> None:
        # A decision that leaves others open is logged as another pause.
        if self._pause is not None:
            return
        pause_id = event.payload.get("pause_id")
        own = [item for item in self._requirements if item.pause_id == pause_id]
        self._pause = self._write(
            EntryKind.PAUSE,
            event.at,
            pause_id=pause_id,
            requirements=[{**describe_requirement(each), "is_open": each.is_open} for each in own],
        )
        for item in own:
            self._decisions += [Entry(EntryKind.VOTE, vote.at, details=_vote(item, vote)) for vote in item.votes]
            if item.answer is not None:
                self._decisions.append(Entry(EntryKind.DECISION, item.answer.at, details=_decision(item, item.answer)))
        self._decisions.sort(key=lambda entry: entry.at)

    def _write_decisions(self, until: datetime | None) -> None:
        due = [entry for entry in self._decisions if until is None or entry.at <= until]
        self._decisions = self._decisions[len(due) :]
        self.entries += due

    def _end_pause(self, event: Event) -> None:
        if self._pause is not None:
            self._pause.seconds = _between(self._pause.at, event.at)
            self._pause = None

    def _go_on(self, event: Event) -> None:
        self._end_pause(event)
        payload = event.payload
        self._write(EntryKind.CONTINUE, event.at, by=payload.get("by"))
        if "prompt" in payload:
            self._write_prompt(event.at, payload["prompt"], payload.get("by"))

    def _end(self, event: Event) -> None:
        self._end_pause(event)
        payload = event.payload
        text = payload.get("content") or payload.get("reason")
        self._write(EntryKind.END, event.at, status=_ENDS[event.type].value, text=text, by=payload.get("by"))


def _between(since: datetime, until: datetime) -> float:
    return max(0.0, (until - since).total_seconds())


def _call(call: ToolCall) -> dict[str, Any]:
    details = {
        "tool_call_id": call.tool_call_id,
        "tool_name": call.tool_name,
        "arguments": call.tool_args,
        "outcome": call.outcome.value if call.outcome is not None else None,
        "text": call.result_text,
    }
    return {key: value for key, value in details.items() if value is not None}


def describe_requirement(requirement: Requirement) -> dict[str, Any]:
    """Return what a run waits for, as people see it wherever they look at one run."""
    return {
        "requirement_id": requirement.id,
        "tool_call_id": requirement.call_id,
        "tool_name": requirement.tool_name,
        "arguments": requirement.tool_args,
        "kind": "question" if requirement.question else requirement.kind.value,
        "in_doubt": requirement.in_doubt,
    }


def _vote(requirement: Requirement, vote: Vote) -> dict[str, Any]:
    details = {"requirement_id": requirement.id, "tool_name": requirement.tool_name, "by": vote.by, "note": vote.note}
    return {key: value for key, value in details.items() if value is not None}


def _decision(requirement: Requirement, answer: Answer) -> dict[str, Any]:
    details = {
        "requirement_id": requirement.id,
        "tool_call_id": requirement.call_id,
        "tool_name": requirement.tool_name,
        "decision": answer.decision.value,
        "by": answer.by,
        "via": answer.via,
        "note": answer.note,
        "values": answer.values,
        "text": answer.result,
    }
    return {key: value for key, value in details.items() if value is not None}
