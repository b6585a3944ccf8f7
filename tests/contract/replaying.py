"""Sends captured requests to our server, with its own ids in them, and keeps its answers for the requests after."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from tests.contract.captures import Capture, JsonObject

# Frames of `/resume` that say what the frames around them are; they are no events and have no number.
META_FRAMES: Final = frozenset({"replay", "catch_up", "subscribed"})

_EVENT_FIELDS: Final = frozenset({"event", "data", "id"})
_PLACE: Final = re.compile(r"\{(run|approval):(\w+)\}|\{(database)\}")
_ACCEPTED: Final = 202


@dataclass(frozen=True, slots=True)
class Answer:
    """What our server said: the JSON of a body, the events of a stream in their order, or text that is neither."""

    status: int
    content_type: str
    body: Any = None
    events: tuple[JsonObject, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def result(self) -> JsonObject:
        """The run as a client knows it after this answer: the body, or the last event."""
        found = self.events[-1] if self.events else self.body
        return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class Replay:
    """Sends captured requests to one server and keeps its answers, from which later requests are made.

    With `wait` a run that goes on in the background is given the time to pause or end before the next request
    about it.
    """

    client: httpx.AsyncClient
    wait: bool = True
    answers: dict[str, Answer] = field(default_factory=dict)

    async def send(self, capture: Capture) -> Answer:
        """Send the request as it was captured, with this server's ids; `LookupError` if it gave none."""
        await self._settle(capture)
        names = {"database": await self._database()} if "{database}" in str(capture.query) else {}
        content = self._content(capture)
        content["headers"] = {**capture.headers, **content.get("headers", {})}
        request = self.client.build_request(
            capture.method,
            self.fill(capture.path),
            params=[(key, self.fill(value, names)) for key, value in capture.query] or None,
            **content,
        )
        answer = read_answer(await self.client.send(request))
        self.answers[capture.number] = answer
        return answer

    def fill(self, template: Any, names: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the JSON with this server's ids where the template names the captures that gave them."""
        if isinstance(template, str):
            return _PLACE.sub(lambda found: self._named(found, names or {}), template)
        if isinstance(template, Mapping):
            return {key: self.fill(value, names) for key, value in template.items()}
        if isinstance(template, list | tuple):
            return [self.fill(value, names) for value in template]
        return template

    def run_id(self, number: str) -> str:
        """Return the run that the answer to this capture named."""
        return str(self.answers[number].result["run_id"])

    def approval_id(self, number: str) -> str:
        """Return the first approval that the answer to this capture named."""
        found = [tool["approval_id"] for tool in self.answers[number].result["tools"] if tool["approval_id"]]
        return str(found[0])

    def call_id(self, number: str, at: int = 0) -> str:
        """Return the id of a tool call in the answer to this capture."""
        return str(self.answers[number].result["tools"][at]["tool_call_id"])

    async def stored_run(self, number: str) -> JsonObject | None:
        """Return the run that the answer to this capture named, as the server shows it now."""
        found = await self.client.get(f"/agents/{self._agent(number)}/runs/{self.run_id(number)}")
        return read_answer(found).body if found.is_success else None

    async def settle(self, number: str) -> Answer:
        """Follow the run of this capture until it pauses or ends; return its log."""
        return read_answer(await self.client.get(f"/agents/{self._agent(number)}/runs/{self.run_id(number)}/events"))

    async def _settle(self, capture: Capture) -> None:
        number = capture.run_of
        if self.wait and number in self.answers and self.answers[number].status == _ACCEPTED:
            await self.settle(number)

    def _agent(self, number: str) -> str:
        return str(self.answers[number].result.get("agent_id", "hitl"))

    def _named(self, found: re.Match[str], names: Mapping[str, str]) -> str:
        kind, number, other = found.groups()
        if other is not None:
            return names[other]
        return self.run_id(number) if kind == "run" else self.approval_id(number)

    async def _database(self) -> str:
        config = (await self.client.get("/config")).json()
        return str(config["databases"][0])

    def _content(self, capture: Capture) -> JsonObject:
        """Return the arguments for httpx that make the body as curl made it."""
        form = list(capture.form)
        if capture.tools is not None:
            form.insert(0, ("tools", json.dumps([self._tool(recipe) for recipe in capture.tools])))
        if capture.encoding == "json":
            return {"json": capture.json}
        if capture.encoding == "urlencoded":
            headers = {"content-type": "application/x-www-form-urlencoded"}
            return {"content": urlencode(form), "headers": headers}
        parts: list[tuple[str, tuple[str | None, str] | tuple[str, str, str]]] = []
        parts += [(name, (None, value)) for name, value in form]
        parts += [(file["field"], (file["name"], file["content"], file["type"])) for file in capture.files]
        return {"files": parts} if parts else {}

    def _tool(self, recipe: JsonObject) -> JsonObject:
        shown: JsonObject = self.answers[recipe["of"]].result["tools"][recipe["at"]]
        kept = {key: shown[key] for key in recipe.get("only", shown)}
        return {**kept, **recipe.get("set", {})}


def read_answer(response: httpx.Response) -> Answer:
    """Return what the server said; raise ValueError for a stream that the known clients could not read."""
    content_type = response.headers.get("content-type", "")
    read: Callable[[], Any] = response.json if content_type == "application/json" else lambda: response.text
    events = tuple(read_events(response.text)) if content_type.startswith("text/event-stream") else ()
    body = read() if response.content and not content_type.startswith("text/event-stream") else None
    return Answer(response.status_code, content_type, body, events, response.headers)


def read_events(text: str) -> list[JsonObject]:
    """Return the JSON of each frame; raise ValueError for a frame that the known clients would lose.

    They want LF line ends, one `data: ` line in each frame, and the event's name both there and in the JSON.
    Besides, we promise an `id: ` that rises, and in the JSON an `event_index` without a gap.
    """
    events: list[JsonObject] = []
    numbers: list[tuple[int, int]] = []
    for frame in filter(None, text.split("\n\n")):
        lines = [line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":")]
        fields = {parts[0]: parts[1] for parts in lines if len(parts) > 1}
        if not lines:
            continue
        wanted = _EVENT_FIELDS - {"id"} if fields.get("event") in META_FRAMES else _EVENT_FIELDS
        if "\r" in frame or len(lines) != len(wanted) or fields.keys() != wanted:
            message = f"not a frame that AgentOS clients read: {frame!r}"
            raise ValueError(message)
        event = json.loads(fields["data"])
        if event.get("event") != fields["event"]:
            message = f"the frame's name is not the event's: {frame!r}"
            raise ValueError(message)
        events.append(event)
        if "id" in fields:
            numbers.append((int(fields["id"]), event["event_index"]))
    first = numbers[0][1] if numbers else 0
    if numbers != [(index + 1, index) for index in range(first, first + len(numbers))]:
        message = f"the frames' numbers (id, event_index) do not rise by one: {numbers}"
        raise ValueError(message)
    return events
