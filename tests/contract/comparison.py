"""Says how an answer of ours differs from a captured one, as far as a client can see it.

Ids, times, metrics and the model's name are the server's own: keys and types count there, values do not.
Everything else counts: the order of events, texts, and what is said about tools and messages. Reported are
missing keys, values of another type, and keys that neither the captured server nor `EXTRA_KEYS` has.

In the JSON of an object that is neither run nor event, `"@"` names its shape, and only values that are the
contract's stand beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tests.contract.captures import JsonObject, Shape
from tests.contract.differences import EXTRA_KEYS, NEWER_KEYS
from tests.contract.replaying import META_FRAMES

_TYPES: Final[Mapping[str, tuple[type, ...]]] = MappingProxyType(
    {"str": (str,), "int": (int,), "number": (int, float), "list": (list,), "object": (dict,)}
)

# What the captured server's runs hold or not, with nothing to see in the scenario why.
_RUN_KEYS: Final = frozenset({"events", "messages", "metadata", "requirements", "session_state", "tools", "user_id"})
_OWN_TOOL_VALUES: Final = frozenset({"approval_id", "tool_call_id", "created_at", "metrics", "stop_after_tool_call"})
_FORMS: Final = ("user_input_schema", "user_feedback_schema")
_REQUIREMENT_KEYS: Final = frozenset(
    {"confirmation", "confirmation_note", "external_execution_result", *_FORMS},
)
_SECONDS: Final = re.compile(r"in \d+\.\d+s")


@dataclass(slots=True)
class Comparison:
    """Collects what differs; every method adds to `found`, a line for each difference."""

    shapes: Mapping[str, Shape]
    found: list[str] = field(default_factory=list)

    def say(self, where: str, expected: object, got: object) -> None:
        """Note a difference unless the two are equal."""
        if expected != got:
            self.found.append(f"{where}: expected {expected!r}, got {got!r}")

    def keys(self, where: str, shape: str, got: object, extra: Iterable[str]) -> bool:
        """Compare an object's keys and the types of its values; say whether it is an object at all."""
        if not isinstance(got, dict):
            self.found.append(f"{where}: expected an object, got {got!r}")
            return False
        wanted = self.shapes[shape]
        self.say(f"{where}: missing keys", [], sorted(wanted.keys() - got.keys() - NEWER_KEYS))
        self.say(f"{where}: extra keys", [], sorted(got.keys() - wanted.keys() - set(extra)))
        for key in sorted(wanted.keys() & got.keys()):
            if not _is_of_type(wanted[key], got[key]):
                self.found.append(f"{where}.{key}: expected {wanted[key]}, got {got[key]!r}")
        return True

    def error(self, expected: JsonObject, got: object) -> None:
        """Compare the body of a refusal."""
        if not isinstance(got, dict):
            self.found.append(f"error body: expected {expected!r}, got {got!r}")
            return
        self.say("error body", expected, {key: got.get(key) for key in expected})
        self.say("error body: extra keys", [], sorted(got.keys() - expected.keys() - EXTRA_KEYS["error"]))

    def value(self, where: str, expected: object, got: object) -> None:
        """Compare any JSON; of an object with a shape the values that are named, else all of them."""
        if isinstance(expected, dict) and isinstance(got, dict):
            if "@" in expected:
                kind = str(expected["@"]).partition("#")[0]
                self.keys(where, expected["@"], got, EXTRA_KEYS.get(kind, frozenset()))
            else:
                extra = EXTRA_KEYS["field"] if "user_input_schema[" in where else frozenset()
                self.say(f"{where}: keys", sorted(expected), sorted(got.keys() - extra))
            for key in expected.keys() & got.keys():
                if key == "chat_history":
                    self.messages(expected[key], got[key])
                else:
                    self.value(f"{where}.{key}", expected[key], got[key])
        elif isinstance(expected, list) and isinstance(got, list):
            self.say(f"{where}: length", len(expected), len(got))
            for place, (one, other) in enumerate(zip(expected, got, strict=False)):
                self.value(f"{where}[{place}]", one, other)
        else:
            self.say(where, expected, got)

    def run(self, expected: JsonObject, got: JsonObject, run_id: str | None) -> None:
        """Compare a run; `run_id` is None for a run that this answer creates."""
        if not self.keys("run", expected["shape"], got, _RUN_KEYS | EXTRA_KEYS["run"]):
            return
        for key in sorted(expected.keys() - {"shape", "tools", "messages", "requirements", "events"}):
            self.say(f"run.{key}", expected[key], got.get(key))
        if run_id is not None:
            self.say("run.run_id", run_id, got.get("run_id"))
        self.tools("run", expected.get("tools", []), got.get("tools") or [])
        self.requirements("run", expected.get("requirements", []), got)
        if "messages" in expected:
            self.messages(expected["messages"], got.get("messages") or [])
            self.call_ids(got)
        if "events" in expected:
            # Of a run that was created without a stream the captured server keeps only the continued part.
            stored = (got.get("events") or [])[-len(expected["events"]) :]
            self.say("run.events", expected["events"], [event["event"] for event in stored])
            for event in stored:
                self.keys(f"run.events {event['event']}", event["event"], event, EXTRA_KEYS["event"])

    def events(self, expected: Sequence[JsonObject], got: Sequence[JsonObject], run_id: str | None) -> None:
        """Compare the events of a stream; consecutive RunContent count as one, each of them is looked at."""
        wanted = [event["shape"].partition("#")[0] for event in expected]
        rows = _rows(got)
        self.say("order of events", wanted, [row[0]["event"] for row in rows])
        if wanted != [row[0]["event"] for row in rows]:
            return
        for place, (event, row) in enumerate(zip(expected, rows, strict=True)):
            self.event(f"event {place} {row[0]['event']}", event, row[0])
            for one in row[1:]:
                self.event(f"event {place} {one['event']}", {"shape": event["shape"]}, one)
        own = [event for event in got if event["event"] not in META_FRAMES]
        for key in ("run_id", "session_id", "agent_id"):
            self.say(f"{key} is one in all events", 1, len({event.get(key) for event in own}))
        if run_id is not None:
            self.say("run_id of the events", {run_id}, {event.get("run_id") for event in got})
        if got[-1]["event"] == "RunCompleted":
            # Who attached in the middle of a text has only its end.
            deltas = "".join(event["content"] for event in got if event["event"] == "RunContent")
            self.say("the deltas together", deltas, str(got[-1].get("content"))[-len(deltas) :])
            if own[0]["event"] in {"RunStarted", "RunContinued"}:
                self.say("all deltas together", got[-1].get("content"), deltas)

    def event(self, where: str, expected: JsonObject, got: JsonObject) -> None:
        """Compare one event of a stream."""
        self.keys(where, expected["shape"], got, EXTRA_KEYS["event"])
        for key in sorted(expected.keys() - {"shape", "tool", "tools", "requirements"}):
            value = got.get(key)
            self.say(f"{where}.{key}", expected[key], _seconds_left_out(value) if isinstance(value, str) else value)
        if "tool" in expected:
            self.tools(where, [expected["tool"]], [got.get("tool")])
        if "tools" in expected:
            self.tools(where, expected["tools"], got.get("tools") or [])
            self.requirements(where, expected["requirements"], got)

    def tools(self, where: str, expected: Sequence[JsonObject], got: Sequence[Any]) -> None:
        """Compare tool executions, in order: what is not named in the expectation must be null."""
        self.say(f"{where}: number of tools", len(expected), len(got))
        for place, (wanted, tool) in enumerate(zip(expected, got, strict=False)):
            at = f"{where}.tools[{place}]"
            if not self.keys(at, "tool", tool, EXTRA_KEYS["tool"]):
                continue
            said = _said(tool)
            self.say(f"{at}: keys with a value", sorted(wanted), sorted(said))
            for key in sorted(wanted.keys() & said.keys()):
                self.say(f"{at}.{key}", wanted[key], said[key])

    def requirements(self, where: str, expected: Sequence[str], got: JsonObject) -> None:
        """Compare requirements: their number, their keys, and that each shows a tool as `tools` does.

        Only an unanswered one must: the captured server does not bring those up to date that are settled.
        """
        found = got.get("requirements") or []
        self.say(f"{where}: number of requirements", len(expected), len(found))
        tools = {tool.get("tool_call_id"): tool for tool in got.get("tools") or []}
        for place, (shape, one) in enumerate(zip(expected, found, strict=False)):
            at = f"{where}.requirements[{place}]"
            if not self.keys(at, shape, one, _REQUIREMENT_KEYS | EXTRA_KEYS["requirement"]):
                continue
            tool = one.get("tool_execution") or {}
            self.keys(f"{at}.tool_execution", "tool", tool, EXTRA_KEYS["tool"])
            shown = tools.get(tool.get("tool_call_id"))
            if shown is None:
                self.found.append(f"{at}: is about {tool.get('tool_call_id')}, which is not among the tools")
            elif not _is_settled(shown):
                self.say(f"{at}.tool_execution", shown, tool)
                self.say(f"{at}.user_input_schema", shown["user_input_schema"] or [], _form(one))

    def messages(self, expected: Sequence[JsonObject], got: Sequence[JsonObject]) -> None:
        """Compare the transcript: roles, texts, calls and what tools said, in order."""
        roles = [message["shape"].partition("#")[0].removeprefix("message-") for message in expected]
        self.say("roles of messages", roles, [message.get("role") for message in got])
        for place, (wanted, message) in enumerate(zip(expected, got, strict=False)):
            at = f"messages[{place}]"
            self.keys(at, wanted["shape"], message, EXTRA_KEYS["message"])
            for key in sorted(wanted.keys() - {"shape", "calls"}):
                self.say(f"{at}.{key}", wanted[key], message.get(key))
            if "calls" in wanted:
                calls = [_call(call) for call in message.get("tool_calls", [])]
                self.say(f"{at}.tool_calls", wanted["calls"], calls)

    def call_ids(self, got: JsonObject) -> None:
        """Compare the calls in the messages with the tools: the same ids, in the same order."""
        messages = got.get("messages") or []
        proposed = [call.get("id") for message in messages for call in message.get("tool_calls") or []]
        self.say("ids of calls", proposed, [tool.get("tool_call_id") for tool in got.get("tools") or []])
        answered = [message.get("tool_call_id") for message in messages if message.get("role") == "tool"]
        self.say("ids in tool messages", [], [call for call in answered if call not in proposed])


def _rows(events: Iterable[JsonObject]) -> list[list[JsonObject]]:
    """Return every event by itself, but neighbouring RunContent together: how text is cut is the model's."""
    rows: list[list[JsonObject]] = []
    for event in events:
        if rows and event["event"] == rows[-1][0]["event"] == "RunContent":
            rows[-1].append(event)
        else:
            rows.append([event])
    return rows


def _said(tool: JsonObject) -> JsonObject:
    """Return what a tool execution says: the values that are not null, without the server's own.

    A form that is [] says nothing: the captured server turns null into it on the way through its database.
    """
    ignored = _OWN_TOOL_VALUES | EXTRA_KEYS["tool"]
    said = {key: value for key, value in tool.items() if key not in ignored and value is not None}
    return {
        key: [_without_extra(field) for field in value] if key in _FORMS else value
        for key, value in said.items()
        if key not in _FORMS or value != []
    }


def _without_extra(field: JsonObject) -> JsonObject:
    """Return a field of a form without the keys that clients of the captured server do not know."""
    return {key: value for key, value in field.items() if key not in EXTRA_KEYS["field"]}


def _is_settled(tool: JsonObject) -> bool:
    """Return whether somebody has answered what this tool waited for."""
    return any(tool.get(key) is not None for key in ("confirmed", "answered", "result"))


def _form(requirement: JsonObject) -> list[Any]:
    """Return the fields a requirement asks for, the empty list if it has no form."""
    return requirement.get("user_input_schema") or []


def _seconds_left_out(text: str) -> str:
    return _SECONDS.sub("in {seconds}s", text)


def _is_of_type(kind: str, value: object) -> bool:
    if kind in {"any", "null"}:
        return True
    if kind == "bool" or isinstance(value, bool):
        return kind == "bool" and isinstance(value, bool)
    return isinstance(value, _TYPES[kind])


def _call(call: JsonObject) -> list[Any]:
    """Return a call as `[name, arguments]`; its other keys are OpenAI's and fixed."""
    if call.keys() != {"id", "type", "function"} or call["type"] != "function":
        return ["not a call of OpenAI's shape", call]
    return [call["function"]["name"], json.loads(call["function"]["arguments"])]
