"""Requests to every route of the application, made from its OpenAPI document, about things of one's own or of others.

What a field is about is found by its name: one that no list here has fails the test that meets it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from tests.access.other_organization import KNOWN_USER, OURS, THEIRS, URL
from tests.support.server import Dump, User
from tests.support.toolbox import JsonObject, plan

if TYPE_CHECKING:
    import httpx

NOBODYS_UUID: Final = "00000000-0000-4000-8000-000000000000"
NOBODYS_NUMBER: Final = 9_900_001
_MOST: Final = 100
DEPLOY: Final = plan([("deploy", {"env": "ours"})])
DELETE: Final = plan([("delete_file", {"path": "ours"})])

# Nothing can be named in uploads; who asks is told by the token.
_LEFT_OUT: Final = frozenset({"files", "images", "input_files", "audio", "videos", "authorization"})


@dataclass(frozen=True, slots=True)
class Names:
    """What a request can be about, by the kind of name."""

    run_ids: Sequence[str] = ()
    run_keys: Sequence[int] = ()
    session_ids: Sequence[str] = ()
    approval_ids: Sequence[str] = ()
    grant_ids: Sequence[str] = ()
    pause_ids: Sequence[str] = ()
    call_ids: Sequence[str] = ()
    users: Sequence[str] = ()
    user_keys: Sequence[int] = ()
    channel_keys: Sequence[int] = ()
    urls: Sequence[str] = ()
    keys: Sequence[str] = ()
    organizations: Sequence[int] = (OURS,)
    agents: Sequence[str] = ("toolbox",)
    token_ids: Sequence[str] = ()

    def __add__(self, other: Names) -> Names:
        """Return the names of both."""
        return Names(*((*getattr(self, name), *getattr(other, name)) for name in self.__slots__))

    def __len__(self) -> int:
        """Return how many names there are of the kind that has most."""
        return max(len(getattr(self, name)) for name in self.__slots__)

    def texts(self) -> list[str]:
        """Return all of them as they stand in an answer."""
        return [str(value) for name in self.__slots__ for value in getattr(self, name)]

    def nowhere(self) -> Names:
        """Return as many names of the same kinds, of what does not exist."""
        # No two of them are the same: each stands for one name.
        made = {
            name: [_like(value, number) for number, value in enumerate(getattr(self, name), start=1 + _MOST * kind)]
            for kind, name in enumerate(self.__slots__)
        }
        return Names(**made)


def _like(value: str | int, number: int) -> Any:  # noqa: ANN401 - of the same type
    if isinstance(value, int):
        return NOBODYS_NUMBER + number
    unlike = NOBODYS_UUID[:-4] + f"{number:04}"
    return unlike if len(value) == len(unlike) else f"https://nowhere.example/{number}" if ":" in value else unlike[9:]


def rows_about(rows: Dump, run_key: int) -> Dump:
    """Return of an organization's rows those of one run and its session, and what is about no run."""
    run = next(row for row in rows["runs"] if row["id"] == run_key)
    return {
        **rows,
        "runs": [run],
        "sessions": [row for row in rows["sessions"] if row["id"] == run["session_key"]],
        "requirements": [row for row in rows["requirements"] if row["run_key"] == run_key],
    }


def names_in(rows: Dump, organization: int) -> Names:
    """Return the names of what an organization has, whose rows these are."""
    waiting = sorted(rows["requirements"], key=lambda row: (row["run_key"], row["position"]))
    return Names(
        run_ids=[row["run_id"] for row in rows["runs"]],
        run_keys=[row["id"] for row in rows["runs"]],
        session_ids=[row["session_id"] for row in rows["sessions"]],
        approval_ids=[row["id"] for row in waiting],
        grant_ids=[row["id"] for row in rows["grants"]] or [NOBODYS_UUID],
        pause_ids=[row["pause_id"] for row in rows["runs"] if row["pause_id"]],
        call_ids=[row["tool_call_id"] for row in waiting],
        users=[KNOWN_USER] if organization == THEIRS else [row["name"] for row in rows["users"]],
        user_keys=[row["id"] for row in rows["users"]],
        channel_keys=[row["id"] for row in rows["notification_channels"]] or [NOBODYS_NUMBER],
        urls=[URL] if organization == THEIRS else ["https://our-hooks.example/"],
        keys=["known-key-create", "known-key-resolve"] if organization == THEIRS else ["our-key"],
        organizations=(organization,),
        agents=list(dict.fromkeys(row["agent_id"] for row in rows["runs"])),
        # Nobody revokes the tokens that they come with.
        token_ids=[row["id"] for row in rows["tokens"]] if organization == THEIRS else [],
    )


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter, header or field of a body; ``place`` says where it goes."""

    place: str
    name: str
    is_number: bool
    is_required: bool


@dataclass(frozen=True, slots=True)
class Route:
    """One operation with all its fields."""

    method: str
    path: str
    fields: tuple[Field, ...]

    @property
    def label(self) -> str:
        """Return what tables call it."""
        return f"{self.method} {self.path}"


def read_routes(document: Mapping[str, Any]) -> dict[str, Route]:
    """Return every route in an OpenAPI document, by its label."""
    routes = [
        Route(method.upper(), path, tuple(_fields(operation, document)))
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    return {route.label: _ending(route) for route in routes}


def _ending(route: Route) -> Route:
    """Return the route; the inbox's stream ends only where it says not to follow."""
    if route.label != "GET /inbox/events":
        return route
    fields = [replace(each, is_required=each.is_required or each.name == "follow") for each in route.fields]
    return replace(route, fields=tuple(fields))


def _fields(operation: Mapping[str, Any], document: Mapping[str, Any]) -> list[Field]:
    found = [
        Field(each["in"], each["name"], "'integer'" in str(each["schema"]), each["required"])
        for each in operation.get("parameters", ())
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content["schema"]
        # A body that may be left out.
        schema = next(iter(schema.get("anyOf", [schema])))
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        place = "json" if media_type == "application/json" else "form"
        required = schema.get("required", ())
        found += [
            Field(place, name, "'integer'" in str(each), name in required)
            for name, each in schema["properties"].items()
        ]
    return [each for each in found if each.name not in _LEFT_OUT]


_FLAGS: Final = ("false", "true")
# What does not name anything: it only has to be there, so that every way through a route is gone.
_PLAIN: Final[Mapping[str, Sequence[Any]]] = MappingProxyType(
    {
        "action": ("run.cancelled", "requirement.answered"),
        "active": _FLAGS,
        "after_card_order_id": ("a",),
        "answer": ("ours",),
        "agent_type": ("codegen",),
        "approval_type": ("required", "audit"),
        "background": _FLAGS,
        "before_card_order_id": ("b",),
        "component_id": ("toolbox",),
        "created_after": (0,),
        "created_before": (2_000_000_000,),
        "continue": (False, True),
        "cursor": ("1", "9000000"),
        "db_id": ("unpause",),
        "decision": ("approve", "reject", "answer"),
        "enabled": (False, True),
        "events": (["failed"], ["waiting", "in_doubt"]),
        "output_schema": ('{"type": "object"}',),
        "Last-Event-ID": ("0", "1", "3", "-1", "nothing"),
        # A stream that follows ends only when somebody answers the pause.
        "expires_in": (60, 86_400),
        "follow": ("false",),
        "expires_within": (0, 1e6),
        "image_number": (0,),
        "in_doubt": _FLAGS,
        "last_event_id": ("0", "1", "3", "-1", "nothing"),
        "last_event_index": ("-1", "0", "2"),
        "limit": (1, 100),
        "message": (DEPLOY, DELETE, "hello"),
        "name": ("ours",),
        "note": ("ours",),
        "older_than": (0,),
        "owner": ("user", "organization"),
        "model": ("test:none",),
        "page": (1, 2),
        "pause_type": ("confirmation", "user_input"),
        "prompt": (DEPLOY, DELETE, "hello"),
        "prompt_number": (0, 1),
        "remember": ({"scope": "run"},),
        "repo_id": (1,),
        "result": ("ours", {"a": 1}),
        "reverse": _FLAGS,
        "schedule_id": ("a",),
        "scopes": (["agents:read"], ["agent_os:admin"]),
        "search": ("hello", "%", "ours"),
        "secret": ("a secret of ours",),
        "since": ("2020-01-01T00:00:00Z",),
        "session_name": ("session", "%", "without runs"),
        "skip": (0, 1),
        "sort_by": ("created_at", "updated_at"),
        "sort_order": ("asc", "desc"),
        "session_types": (["agent", "agent"], ["agent"]),
        "source_type": ("agent", "API", "SETUP_COMMANDS"),
        "stream": _FLAGS,
        "stream_events": _FLAGS,
        "team_id": ("a",),
        "ticket": ("ours", "ours.ours"),
        "tool_name": ("deploy", "delete_file"),
        "trigger_source": ("ours",),
        "type": ("agent", "team"),
        "until": ("2040-01-01T00:00:00Z",),
        "use_json_schema": _FLAGS,
        "who": ("mine", "others", "all"),
        "workflow_id": ("a",),
    }
)
_OBJECTS: Final = frozenset({"arguments", "dependencies", "metadata", "session_state", "summary", "values"})
_STATUSES: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "GET /agents/{agent_id}/runs": ("PAUSED", "COMPLETED"),
        "GET /approvals": ("pending", "approved"),
        "POST /approvals/{approval_id}/resolve": ("approved", "rejected"),
    }
)
_NAMED: Final[Mapping[str, Callable[[Names], Sequence[Any]]]] = MappingProxyType(
    {
        "acting_for": lambda names: names.users,
        "actor": lambda names: names.users,
        "agent_id": lambda names: names.agents,
        "agent_run_id": lambda names: names.run_keys,
        "approval_id": lambda names: names.approval_ids,
        "channel_id": lambda names: names.channel_keys,
        "grant_id": lambda names: names.grant_ids,
        "Idempotency-Key": lambda names: names.keys,
        "id_prefix": lambda names: [*names.approval_ids[:1], *(name[:13] for name in names.run_ids[:1])],
        "org_id": lambda names: names.organizations,
        "pause_id": lambda names: names.pause_ids,
        "decisions": lambda names: [
            [{"requirement_id": name, "decision": verb}]
            for name in names.approval_ids
            for verb in ("approve", "reject")
        ],
        "requirement_id": lambda names: names.approval_ids,
        "resolved_by": lambda names: names.users,
        # Now and then the number of one, where there are several.
        "run_id": lambda names: [*names.run_ids, *map(str, names.run_keys[1:2])],
        "session_id": lambda names: names.session_ids,
        "session_ids": lambda names: [list(names.session_ids)],
        "token_id": lambda names: names.token_ids or ("AAAAAAAA",),
        "url": lambda names: names.urls,
        "user_id": lambda names: names.users,
        "webhooks": lambda names: [[{"url": url, "secret": "a secret"}] for url in names.urls],
    }
)


# A thread is a session, and what it waits for are requirements.
_RUN_INPUT: Final[Mapping[str, Callable[[Names], Sequence[Any]]]] = MappingProxyType(
    {
        "context": lambda _names: [[{"description": "ours", "value": "ours"}]],
        "forwardedProps": lambda _names: [{"is": "ours"}],
        "messages": lambda names: [
            *([{"id": "1", "role": "user", "content": text}] for text in (DEPLOY, DELETE, "hello")),
            *([{"id": "1", "role": "tool", "toolCallId": call_id, "content": "ours"}] for call_id in names.call_ids),
        ],
        "parentRunId": lambda names: names.run_ids,
        "protocolVersion": lambda _names: ["1.0"],
        "resume": lambda names: [
            [{"interruptId": name, "status": "resolved", "payload": {"approved": said}}]
            for name in names.approval_ids
            for said in (True, False)
        ],
        "runId": lambda names: [*names.run_ids, "ours"],
        "state": lambda _names: [{"is": "ours"}],
        "threadId": lambda names: names.session_ids,
        "tools": lambda _names: [[{"name": "ours", "description": "ours"}]],
    }
)


def values_for(route: Route, wanted: Field, names: Names) -> Sequence[Any]:
    """Return what the field may be; raise KeyError for one that nobody has thought of."""
    name, is_json = wanted.name, wanted.place == "json"
    if name in {"tools", "resolution_data"} and not route.path.endswith("/ag-ui"):
        found = _answers(names) if name == "tools" else [{"note": "ours", "values": {"role": "ours"}}]
        return found if is_json else [json.dumps(each) for each in found]
    if name == "status":
        return _STATUSES.get(route.label, ("PAUSED", "COMPLETED"))
    if name == "url" and route.path.startswith("/notifications"):
        return ["json://our-channel.example/"]
    if name in _OBJECTS:
        return [{"is": "ours"} if is_json else '{"is": "ours"}']
    if name == "user_id" and wanted.is_number:
        return names.user_keys
    named = _RUN_INPUT if route.path.endswith("/ag-ui") and is_json else _NAMED
    return named[name](names) if name in named else _PLAIN[name]


def _answers(names: Names) -> list[list[JsonObject]]:
    decided: list[list[JsonObject]] = [
        [{"tool_call_id": call_id, "confirmed": said, "result": "ours"}]
        for call_id in names.call_ids
        for said in (True, False)
    ]
    return [*decided, []]


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is to be sent: its route, and what its fields are."""

    route: Route
    said: Mapping[str, Any] = field(default_factory=dict)

    def with_values(self, **said: Any) -> Question:  # noqa: ANN401 - any JSON
        """Return it with more fields."""
        return replace(self, said={**self.said, **said})

    async def send(self, person: User) -> httpx.Response:
        """Have the person send it."""
        placed: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "header": {}, "form": {}, "json": {}}
        for each in self.route.fields:
            if each.name in self.said:
                placed[each.place][each.name] = self.said[each.name]
        content: dict[str, Any] = {}
        places = {each.place for each in self.route.fields}
        if "form" in places:
            content["data"] = placed["form"]
        elif "json" in places:
            content["json"] = placed["json"]
        path = self.route.path.format(**placed["path"])
        return await person.request(self.route.method, path, placed["header"], params=placed["query"], **content)

    @property
    def words(self) -> str:
        """Return all that it says, as JSON."""
        return json.dumps(dict(self.said))


def filled(route: Route, names: Names, number: int, *optional: str) -> Question:
    """Return the request about the names of that number, with what it needs and these optional fields."""
    said: dict[str, Any] = {}
    for each in route.fields:
        if each.is_required or each.name in optional:
            values = values_for(route, each, names)
            said[each.name] = values[number % len(values)]
    return Question(route, said)
