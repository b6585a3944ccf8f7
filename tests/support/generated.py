"""Requests that schemathesis makes from the OpenAPI document, sent to the whole application in this process.

As schemathesis makes them almost all name something that does not exist. So each is sent a second time, to a run, a
session, an approval, a grant or a channel that do: `Target` has those, and makes new ones where a request has used
them up.
"""

from __future__ import annotations

import base64
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import pytest
import requests
import schemathesis
from cryptography.fernet import Fernet
from schemathesis import Case, Response
from schemathesis.checks import not_a_server_error
from schemathesis.python.asgi import ASGIClient
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)
from starlette.applications import Starlette

from tests.support.caller import CODEGEN, RUNS
from tests.support.full import IS_FULL
from tests.support.serving import ADDRESS, application_for, options_for, settings_for
from tests.support.toolbox import DEPLOY, plan, toolbox_agent
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.api.app import create_app
from unpause.domain.webhooks import DeliveryResult
from unpause.notifications.sender import AppriseSender
from unpause.webhooks.http import SafeHttpClient

if TYPE_CHECKING:
    from schemathesis.python.asgi import ASGIApp

Json: TypeAlias = dict[str, Any]

DOCUMENT: Final = Path(__file__).parents[2] / "openapi" / "unpause.json"

CHECKS: Final = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
)

_EVENT_DATA: Final = {
    "type": "object",
    "properties": {"event": {"type": "string"}, "run_id": {"type": "string"}},
    "required": ["event", "run_id"],
}
_TEXT: Final = {"type": "string", "minLength": 1}
# Of a run's event its number; of the inbox's a moment and the request, so that one comes again with the same id.
_RUN_ID, _INBOX_ID = "^[0-9]+$", "^[0-9]+-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

_AG_UI_EVENT: Final = {
    "type": "object",
    # An event without a name is of the type "message".
    "properties": {"id": _TEXT, "event": {"const": "message"}, "data": _TEXT},
    "required": ["data"],
    "additionalProperties": False,
}


def _event(reference: str) -> Json:
    """Return the schema of a stream's items, which the document refers to so."""
    if reference.endswith("/AgUiEventItem"):
        return _AG_UI_EVENT
    data = {**_TEXT, "contentMediaType": "application/json", "contentSchema": _EVENT_DATA}
    pattern = _INBOX_ID if reference.endswith("/InboxEventItem") else _RUN_ID
    return {
        "type": "object",
        "properties": {"id": {"type": "string", "pattern": pattern}, "event": _TEXT, "data": data},
        "required": ["event", "data"],
        "additionalProperties": False,
    }


_SUCCESS: Final = range(200, 300)
_INVALID: Final = 422
_NOT_OFFERED: Final = 405
_FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})
_PICTURE: Final = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
_DELETE: Final = plan([("delete_file", {"path": "a"})])
_PUBLISH: Final = plan([("publish", {"path": "a"})])
_CHANNELS: Final = "/notifications/channels"
# What made-up values of are mostly refused in AG-UI's input.
_NO_EXTRAS: Final[Json] = {"state": {}, "tools": [], "context": [], "resume": None, "forwardedProps": {}}
# Without a token no caller is a user, who could have a channel of their own.
_CHANNEL: Final = {"url": "json://127.0.0.1:9/", "owner": "organization"}

# What a made-up value of is refused or leads elsewhere, before anything else of the request is looked at.
# What leaves something to be found, whatever its value.
_HARMLESS_QUERY: Final = frozenset({"limit", "reverse", "session_id"})
_REFUSED_QUERY: Final = frozenset({"component_id", "db_id", "user_id"})
_REFUSED_BODY: Final = frozenset(
    {"audio", "dependencies", "files", "images", "input_files", "metadata", "model", "pause_id", "session_id"}
    | {"name", "scopes", "session_state", "user_id", "videos", "webhooks"}
)


def read_document() -> Json:
    """Return the document of all routes, as it is kept; another test compares it with what the application says.

    The schema of a stream is that of its text there. schemathesis takes it for that of an event, so here it is one.
    No request has ``follow``: its stream ends only when somebody answers the pause.
    """
    document: Json = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    for item in document["paths"].values():
        for operation in item.values():
            parameters = operation.get("parameters", [])
            parameters[:] = [parameter for parameter in parameters if parameter["name"] != "follow"]
            for response in operation["responses"].values():
                content = response.get("content", {})
                if "text/event-stream" in content:
                    reference = content["text/event-stream"]["x-itemSchema"]["$ref"]
                    content["text/event-stream"] = {"schema": _event(reference)}
    return document


def examples(usual: int) -> int:
    """Return how many examples to generate: FUZZ_EXAMPLES, or as many as usual."""
    return int(os.environ.get("FUZZ_EXAMPLES", usual))


def schema_of(document: Json, usual: int) -> BaseSchema:
    """Return the schema that requests are made from: the same ones each time, valid and invalid."""
    config = schemathesis.Config.from_dict(
        {
            # Each parameter up to its limits, one by one: hundreds of requests for an operation, made when tests are
            # collected.
            "phases": {"coverage": {"enabled": IS_FULL}},
            "suppress-health-check": ["all"],
            "base-url": ADDRESS,
            "generation": {"max-examples": examples(usual), "deterministic": True, "database": "none"},
        }
    )
    return schemathesis.openapi.from_dict(document, config=config)


def application_in(folder: Path, **changes: object) -> Starlette:
    """Return the application on a database in the folder, with the toolbox as its agent; schemathesis starts it."""
    (folder / "checkouts" / "1").mkdir(parents=True)
    usual: dict[str, object] = {
        "workspace_root": folder / "checkouts",
        "encryption_key": Fernet.generate_key().decode(),
        "sweep_seconds": 3600.0,
    }
    settings = settings_for(folder, **{**usual, **changes})
    driver = PydanticAIDriver(toolbox_agent([]), options_for(settings))
    return create_app(application_for(settings, [driver]))


@contextmanager
def nobody_outside() -> Iterator[None]:
    """Answer webhooks and take notifications here during the block: made-up addresses may be somebody's."""

    async def answer(*_: object) -> DeliveryResult:
        return DeliveryResult(200)

    async def take(*_: object) -> DeliveryResult:
        return DeliveryResult()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SafeHttpClient, "post", answer)
        patch.setattr(AppriseSender, "send_text", take)
        yield


class Target:
    """An application to send requests to; ``statuses`` counts its answers to those that `Target` sent itself."""

    def __init__(self, app: Starlette) -> None:
        self.statuses: Counter[int] = Counter()
        self._app = app
        self._client = ASGIClient(cast("ASGIApp", app), ADDRESS)
        self._numbers = count(1)
        # By the path of the requests.
        self._known: dict[str, Json] = {}

    def send(self, case: Case[Any]) -> None:
        """Send the request as it is, and to what exists if it names anything; fail where an answer is not as said."""
        status = self._send(case)
        if status == _NOT_OFFERED or (status == _INVALID and case.media_type not in _FORMS):
            # So it is whatever it names. But valid forms are refused: for an empty message, and for files, which
            # schemathesis sends as text.
            return
        changed = self.addressed(case)
        if changed is None:
            return
        status = self._send(changed)
        if status in _SUCCESS and case.method.upper() != "GET":
            self._known.clear()

    def _send(self, case: Case[Any]) -> int:
        response = send_checked(case, self._app)
        self.statuses[response.status_code] += 1
        return response.status_code

    def addressed(self, case: Case[Any]) -> Case[Any] | None:
        """Return the request with the names of what exists; every second one without values that are mostly refused.

        None for one that is the same then.
        """
        known = self.known(case.operation.path)
        changed = filled(case, known, plain=next(self._numbers) % 2 == 0)
        if case.operation.path == _CHANNELS and isinstance(changed.body, dict):
            changed.body = {**changed.body, **_CHANNEL}
        same = (changed.path_parameters, changed.query, changed.body) == (case.path_parameters, case.query, case.body)
        return None if same else changed

    def known(self, path: str = "") -> Json:
        """Return the names of a paused run, its session and what it waits for, with what else the path needs.

        It waits for an approval where the path is about one, else for a confirmation.
        """
        if path not in self._known:
            self._known[path] = self._named(path)
        return self._known[path]

    def _named(self, path: str) -> Json:
        if path.startswith("/grants/"):
            paused = self._paused(_PUBLISH)
            return {**paused, "grant_id": self._granted(paused["requirement_id"])}
        paused = self._paused(DEPLOY if "approval" in path else _DELETE)
        if path.startswith(f"{_CHANNELS}/"):
            added = _json(self._client.post(_CHANNELS, json=_CHANNEL), 201)
            return {**paused, "channel_id": added["channel_id"]}
        return paused

    def _granted(self, requirement_id: str) -> str:
        """Have the decision on the call remembered; return the id of the grant."""
        decision: Json = {"decision": "approve", "remember": {"scope": "session"}, "continue": False}
        _json(self._client.post(f"/inbox/{requirement_id}/decide", json=decision))
        (grant,) = _json(self._client.get("/grants", params={"limit": 1}))["data"]
        return str(grant["grant_id"])

    def _paused(self, message: str) -> Json:
        images = json.dumps([{"content": _PICTURE}])
        form = {"message": message, "stream": "false", "session_id": f"session-{next(self._numbers)}", "images": images}
        run = _json(self._client.post(RUNS, data=form))
        newest = _json(self._client.get(f"{CODEGEN}s", params={"limit": 1}))["items"][0]
        (tool,) = run["tools"]
        return {
            "agent_id": run["agent_id"],
            "message": "hello",
            "agent_run_id": newest["id"],
            "approval_id": tool["approval_id"],
            "org_id": 1,
            "run_id": run["run_id"],
            "session_id": run["session_id"],
            "requirement_id": run["requirements"][0]["id"],
            "token_id": _json(self._client.post("/tokens", json={"name": "of nobody"}))["token"]["token_id"],
            "prompt_number": 0,
            "image_number": 0,
            "user_id": 1,
            "tools": [{"tool_call_id": tool["tool_call_id"], "confirmed": True}],
        }


def send_checked(case: Case[Any], app: Starlette) -> Response:
    """Send the request; fail where the answer is not as the document says."""
    checks = [check for check in CHECKS if check is not unsupported_method or not _is_below_a_name(case)]
    return case.call_and_validate(checks=checks, app=app)


def filled(case: Case[Any], known: Json, *, plain: bool) -> Case[Any]:
    """Return the request about what is ``known``; a plain one has no values that are refused when they are made up."""
    query = {
        name: value
        for name, value in case.query.items()
        if (name in _HARMLESS_QUERY if plain else name not in _REFUSED_QUERY)
    }
    if "session_id" in query:
        query["session_id"] = known.get("session_id", "")
    changed: Case[Any] = case.operation.Case(
        path_parameters={name: known.get(name, value) for name, value in case.path_parameters.items()},
        headers={name: value for name, value in case.headers.items() if not plain or name != "Idempotency-Key"},
        cookies=case.cookies,
        query=query,
        body=_body_of(case, known, plain=plain),
        media_type=case.media_type,
    )
    return changed


def _body_of(case: Case[Any], known: Json, *, plain: bool) -> Any:  # noqa: ANN401 - whatever was made up
    if plain and case.operation.path == "/runs/{run_id}/resume":
        return {"prompt": known["message"]}
    body = case.body
    if not isinstance(body, dict):
        return body
    if plain and case.operation.path.endswith("/ag-ui"):
        message = {"id": "1", "role": "user", "content": known["message"]}
        return {**body, **_NO_EXTRAS, "threadId": known["run_id"], "runId": known["session_id"], "messages": [message]}
    changed = {name: value for name, value in body.items() if not (plain and name in _REFUSED_BODY)}
    for name in {"agent_run_id", "message", "prompt"} & set(body) & set(known):
        changed[name] = known[name]
    if "session_ids" in body:
        changed["session_ids"] = [known.get("session_id", "")]
    if "repo_id" in body:
        changed["repo_id"] = 1
    if plain and "tools" in body:
        changed["tools"] = json.dumps(known["tools"]) if isinstance(body["tools"], str) else known["tools"]
    return changed


def _is_below_a_name(case: Case[Any]) -> bool:
    """Whether the last word of the path could be a name in another path: `run/resume` beside `run/{agent_run_id}`."""
    above, _, word = case.operation.path.rpartition("/")
    return any(path.startswith(f"{above}/{{") and path.endswith("}") for path in case.operation.schema) and word != ""


def _json(response: requests.Response, status: int = 200) -> Json:
    assert response.status_code == status, response.text
    body: Json = response.json()
    return body
