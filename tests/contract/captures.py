"""The captured exchanges with AgentOS 2.5.6: what was asked, how to ask it of our server, what came back.

`captures.json` holds them without the ids and times of that server: `{run:018}` in a path is the run that the
answer to capture 018 named, and an item of `tools` is taken from our own answer to an earlier capture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import httpx
from pydantic import TypeAdapter

JsonObject: TypeAlias = dict[str, Any]
Shape: TypeAlias = Mapping[str, str]

_FRAME_FIELDS = frozenset({"event", "data", "id"})
_RUN = re.compile(r"\{run:(\d{3})\}")


@dataclass(frozen=True, slots=True)
class Capture:
    """One captured request with its answer.

    `tools` says how the field of that name was made: item `at` of the `tools` in the answer to capture `of`,
    of it `only` the keys named (all, if none are), with what is in `set` changed. The answer is one of `run`
    (a run), `events` (of a stream; a row of RunContent counts once), `items` (a list) and `error` (a body).
    """

    file: str
    scenario: str
    method: str
    path: str
    status: int
    content_type: str
    encoding: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    form: tuple[tuple[str, str], ...] = ()
    tools: tuple[JsonObject, ...] | None = None
    files: tuple[JsonObject, ...] = ()
    json: JsonObject | None = None
    run: JsonObject | None = None
    events: tuple[JsonObject, ...] | None = None
    items: tuple[str, ...] | None = None
    error: JsonObject | None = None

    @property
    def number(self) -> str:
        """The three digits that the file's name begins with."""
        return self.file[:3]

    @property
    def run_of(self) -> str | None:
        """The capture whose answer named the run in the path, or None."""
        found = _RUN.search(self.path)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Captures:
    """All captures by number, and the shapes (key to JSON type) that they name."""

    by_number: Mapping[str, Capture]
    shapes: Mapping[str, Shape]

    def scenarios(self, leave_out: Iterable[str] = ()) -> dict[str, list[Capture]]:
        """Return the captures that belong together, in their order, without the files to leave out."""
        left_out = set(leave_out)
        found: dict[str, list[Capture]] = {}
        for capture in self.by_number.values():
            if capture.file not in left_out:
                found.setdefault(capture.scenario, []).append(capture)
        return found


def load_captures() -> Captures:
    """Read `captures.json`, which stands beside this file."""
    data = json.loads(Path(__file__).with_name("captures.json").read_text(encoding="utf-8"))
    captures = TypeAdapter(list[Capture]).validate_python(data["captures"])
    return Captures({capture.number: capture for capture in captures}, data["shapes"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What our server said: the JSON of a body, or the events of a stream in their order."""

    status: int
    content_type: str
    body: Any = None
    events: tuple[JsonObject, ...] = ()

    @property
    def result(self) -> JsonObject:
        """The run as a client knows it after this answer: the body, or the last event."""
        found = self.events[-1] if self.events else self.body
        return found if isinstance(found, dict) else {}


@dataclass(slots=True)
class Replay:
    """Sends captured requests to one server and keeps its answers, from which later requests are made."""

    client: httpx.AsyncClient
    answers: dict[str, Answer] = field(default_factory=dict)

    async def send(self, capture: Capture) -> Answer:
        """Send the request as it was captured, with this server's ids; `KeyError` if it gave none."""
        request = self.client.build_request(
            capture.method,
            _RUN.sub(lambda found: self.run_id(found[1]), capture.path),
            params=list(capture.query) or None,
            **self._content(capture),
        )
        answer = _read(await self.client.send(request))
        self.answers[capture.number] = answer
        return answer

    def run_id(self, number: str) -> str:
        """Return the run that the answer to this capture named."""
        return str(self.answers[number].result["run_id"])

    def call_id(self, number: str, at: int = 0) -> str:
        """Return the id of a tool call in the answer to this capture."""
        return str(self.answers[number].result["tools"][at]["tool_call_id"])

    async def stored_run(self, number: str) -> JsonObject | None:
        """Return the run that the answer to this capture named, as the server shows it now."""
        result = self.answers[number].result
        response = await self.client.get(f"/agents/{result['agent_id']}/runs/{result['run_id']}")
        return _read(response).body if response.is_success else None

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


def _read(response: httpx.Response) -> Answer:
    content_type = response.headers.get("content-type", "")
    if content_type.startswith("text/event-stream"):
        return Answer(response.status_code, content_type, events=tuple(read_events(response.text)))
    return Answer(response.status_code, content_type, body=response.json() if response.content else None)


def read_events(text: str) -> list[JsonObject]:
    """Return the JSON of each frame; raise ValueError for a frame that the known clients would lose.

    They want LF line ends, one `data: ` line in each frame, and the event's name both there and in the JSON.
    Besides, we promise an `id: ` that rises.
    """
    events: list[JsonObject] = []
    ids: list[int] = []
    for frame in filter(None, text.split("\n\n")):
        lines = [line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":")]
        fields = {parts[0]: parts[1] for parts in lines if len(parts) > 1}
        if not lines:
            continue
        if "\r" in frame or len(lines) != len(_FRAME_FIELDS) or fields.keys() != _FRAME_FIELDS:
            message = f"not a frame that AgentOS clients read: {frame!r}"
            raise ValueError(message)
        event = json.loads(fields["data"])
        if event.get("event") != fields["event"]:
            message = f"the frame's name is not the event's: {frame!r}"
            raise ValueError(message)
        events.append(event)
        ids.append(int(fields["id"]))
    if ids != sorted(set(ids)):
        message = f"the frames' ids do not rise: {ids}"
        raise ValueError(message)
    return events
