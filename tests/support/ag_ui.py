"""A client of AG-UI: it sends run inputs, and reads streams as strictly as the specification has clients do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
from ag_ui.core import PROTOCOL_VERSION, Event, EventType, RunErrorEvent, RunFinishedEvent, RunFinishedSuccessOutcome
from pydantic import TypeAdapter

from tests.support.caller import Caller
from tests.support.toolbox import JsonObject, Turn, plan

_EVENTS: TypeAdapter[Any] = TypeAdapter(Event)
_BEGINNINGS = {
    EventType.TEXT_MESSAGE_START: ("text", "message_id"),
    EventType.TOOL_CALL_START: ("call", "tool_call_id"),
    EventType.REASONING_START: ("span", "message_id"),
    EventType.REASONING_MESSAGE_START: ("thought", "message_id"),
}
_MIDDLES = {
    EventType.TEXT_MESSAGE_CONTENT: ("text", "message_id"),
    EventType.TOOL_CALL_ARGS: ("call", "tool_call_id"),
    EventType.REASONING_MESSAGE_CONTENT: ("thought", "message_id"),
}
_ENDS = {
    EventType.TEXT_MESSAGE_END: ("text", "message_id"),
    EventType.TOOL_CALL_END: ("call", "tool_call_id"),
    EventType.REASONING_END: ("span", "message_id"),
    EventType.REASONING_MESSAGE_END: ("thought", "message_id"),
}


@dataclass(frozen=True)
class Stream:
    """The events of a response, in order, with their ids."""

    events: list[Any]
    ids: list[str | None]

    @property
    def types(self) -> list[str]:
        return [event.type.value for event in self.events]

    @property
    def text(self) -> str:
        return "".join(event.delta for event in self.of(EventType.TEXT_MESSAGE_CONTENT))

    @property
    def results(self) -> dict[str, str]:
        """What calls gave back, by their ids."""
        return {event.tool_call_id: event.content for event in self.of(EventType.TOOL_CALL_RESULT)}

    @property
    def calls(self) -> list[tuple[str, JsonObject]]:
        """The calls that were shown, with their arguments."""
        arguments = {event.tool_call_id: json.loads(event.delta) for event in self.of(EventType.TOOL_CALL_ARGS)}
        return [(event.tool_call_name, arguments[event.tool_call_id]) for event in self.of(EventType.TOOL_CALL_START)]

    @property
    def end(self) -> RunFinishedEvent:
        """The end of a run that did not fail."""
        assert isinstance(self.events[-1], RunFinishedEvent), self.events[-1]
        return self.events[-1]

    @property
    def outcome(self) -> str:
        assert self.end.outcome is not None
        return self.end.outcome.type

    @property
    def interrupts(self) -> list[Any]:
        finished = self.of(EventType.RUN_FINISHED)[-1]
        assert finished.outcome.type == "interrupt", finished
        interrupts: list[Any] = finished.outcome.interrupts
        return interrupts

    @property
    def pending(self) -> list[str]:
        """The calls of the front end's tools that a run has left to it."""
        assert isinstance(self.end.outcome, RunFinishedSuccessOutcome)
        return self.end.outcome.pending_tool_call_ids or []

    @property
    def error(self) -> RunErrorEvent:
        assert isinstance(self.events[-1], RunErrorEvent), self.events[-1]
        return self.events[-1]

    def of_type(self, name: str) -> list[Any]:
        return self.of(EventType(name))

    def of(self, kind: EventType) -> list[Any]:
        return [event for event in self.events if event.type is kind]


def read_stream(text: str, *, from_start: bool = True) -> Stream:
    """Return the events of an SSE body; fail where a client that follows the specification would."""
    events, ids = [], list[str | None]()
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith((":", "retry:"))]
        if not lines:
            continue
        fields = dict(line.split(": ", 1) for line in lines)
        assert set(fields) <= {"id", "data"}, fields
        raw = json.loads(fields["data"])
        event = _EVENTS.validate_python(raw)
        # Nothing is null that may be left out, and nothing is there that the protocol does not know.
        assert json.loads(event.model_dump_json(by_alias=True)) == raw
        assert not event.model_extra, event.model_extra
        events.append(event)
        ids.append(fields.get("id"))
    if from_start:
        verify(events)
    return Stream(events, ids)


def verify(events: Sequence[Any]) -> None:
    """Check the order of events as `@ag-ui/client` does."""
    assert events, "an empty stream"
    assert events[0].type in {EventType.RUN_STARTED, EventType.RUN_ERROR}
    opened: set[tuple[str, str]] = set()
    run_id: str | None = None
    before: EventType | None = None
    for event in events:
        kind = event.type
        assert before is not EventType.RUN_ERROR or kind is EventType.RUN_STARTED
        if before is EventType.RUN_FINISHED:
            assert kind in {EventType.RUN_STARTED, EventType.RUN_ERROR}
        if kind is EventType.RUN_STARTED:
            assert run_id is None
            run_id = event.run_id
        elif kind is EventType.RUN_FINISHED:
            assert (event.run_id, opened) == (run_id, set())
            run_id = None
        elif kind is EventType.RUN_ERROR:
            opened, run_id = set(), None
        else:
            assert run_id is not None
        _check_pairs(event, opened)
        before = kind
    assert run_id is None, "the stream ended before its run did"


def _check_pairs(event: Any, opened: set[tuple[str, str]]) -> None:  # noqa: ANN401 - one of many models
    for table, step in ((_BEGINNINGS, "begin"), (_MIDDLES, "middle"), (_ENDS, "end")):
        if event.type not in table:
            continue
        name, key = table[event.type]
        item = (name, getattr(event, key))
        assert (item in opened) is (step != "begin"), f"{event.type.value} of {item}: open are {opened}"
        if step == "begin":
            opened.add(item)
        elif step == "end":
            opened.remove(item)


def yes(interrupt: Any, **payload: object) -> JsonObject:  # noqa: ANN401 - AG-UI's model
    """Return the entry that approves an interrupt, or answers it with this payload."""
    return {"interruptId": interrupt.id, "status": "resolved", "payload": payload or {"approved": True}}


def no(interrupt: Any, note: str | None = None) -> JsonObject:  # noqa: ANN401 - AG-UI's model
    """Return the entry that rejects an interrupt with a note, or cancels it without one."""
    if note is None:
        return {"interruptId": interrupt.id, "status": "cancelled"}
    return {"interruptId": interrupt.id, "status": "resolved", "payload": {"approved": False, "note": note}}


@dataclass
class AgUiThread:
    """One conversation, as a client keeps it: each request has all messages so far, and a run id of its own."""

    caller: Caller
    thread_id: str = "thread-1"
    agent_id: str = "toolbox"
    messages: list[JsonObject] = field(default_factory=list)
    numbers: Any = field(default_factory=lambda: count(1))

    @property
    def path(self) -> str:
        return f"/agents/{self.agent_id}/ag-ui"

    def input(self, **fields: object) -> JsonObject:
        """Return a run input."""
        number = next(self.numbers)
        usual = {"threadId": self.thread_id, "runId": f"run-{number}", "messages": self.messages}
        empty: JsonObject = {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
        return {**usual, **empty, "protocolVersion": PROTOCOL_VERSION, **fields}

    async def post(self, **fields: object) -> httpx.Response:
        return await self.caller.post(self.path, self.input(**fields))

    async def send(self, **fields: object) -> Stream:
        """Send a run input, and return the stream."""
        response = await self.post(**fields)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        return read_stream(response.text)

    async def say(self, *turns: str | Turn, **fields: object) -> Stream:
        """Send a message of the user, or one that has the toolbox make these calls; keep what comes."""
        text = turns[0] if isinstance(turns[0], str) else plan(*(turn for turn in turns if not isinstance(turn, str)))
        self.messages.append({"id": f"user-{len(self.messages)}", "role": "user", "content": text})
        return self.keep(await self.send(**fields))

    async def resume(self, *entries: Mapping[str, object], **fields: object) -> Stream:
        """Answer interrupts; keep what comes."""
        return self.keep(await self.send(resume=list(entries), **fields))

    def keep(self, stream: Stream) -> Stream:
        """Add what a stream has of messages to those of the client, roughly as its library does."""
        by_id: dict[str, JsonObject] = {}
        for event in stream.events:
            match event.type:
                case EventType.TEXT_MESSAGE_START:
                    by_id[event.message_id] = {"id": event.message_id, "role": "assistant", "content": ""}
                    self.messages.append(by_id[event.message_id])
                case EventType.TEXT_MESSAGE_CONTENT:
                    by_id[event.message_id]["content"] += event.delta
                case EventType.TOOL_CALL_START:
                    call = {"id": event.tool_call_id, "type": "function", "function": {"name": event.tool_call_name}}
                    call["function"]["arguments"] = ""
                    by_id[event.tool_call_id] = call
                    message = {"id": f"m-{event.tool_call_id}", "role": "assistant", "toolCalls": [call]}
                    self.messages.append(message)
                case EventType.TOOL_CALL_ARGS:
                    by_id[event.tool_call_id]["function"]["arguments"] += event.delta
                case EventType.TOOL_CALL_RESULT:
                    self.messages.append(
                        {"id": event.message_id, "role": "tool", "toolCallId": event.tool_call_id}
                        | {"content": event.content}
                    )
                case _:
                    pass
        return stream
