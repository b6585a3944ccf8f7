"""Requests that follow one another through both APIs: what one answer names, the next request is about."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from hypothesis import strategies
from schemathesis import Case, GenerationMode, Response
from schemathesis.core.result import Ok
from schemathesis.python.asgi import ASGIClient
from schemathesis.schemas import APIOperation, BaseSchema
from starlette.applications import Starlette

from tests.support.generated import Json, filled, send_checked
from tests.support.serving import ADDRESS
from tests.support.toolbox import DEPLOY, plan

if TYPE_CHECKING:
    from schemathesis.python.asgi import ASGIApp

_AGNO: Final = "/agents/{agent_id}/runs"
_CODEGEN: Final = "/v1/organizations/{org_id}/agent/run"
_BEGINNINGS: Final = (f"POST {_AGNO}", f"POST {_CODEGEN}")
_FOLLOWING: Final = (
    *(f"{method} {_AGNO}/{{run_id}}{rest}" for method, rest in (("GET", ""), ("GET", "/events"))),
    *(f"POST {_AGNO}/{{run_id}}/{word}" for word in ("cancel", "continue", "events/ticket", "pause", "resume")),
    *(f"GET {_AGNO}", "GET /approvals", "POST /approvals/{approval_id}/resolve", "DELETE /sessions/{session_id}"),
    *("GET /approvals/{approval_id}", "GET /sessions/{session_id}", "GET /sessions/{session_id}/runs"),
    *(f"GET {_CODEGEN}{rest}" for rest in ("s", "/{agent_run_id}", "/{agent_run_id}/logs")),
    *(f"POST {_CODEGEN}/{word}" for word in ("ban", "pause", "resume", "unban")),
)
# Where every walk goes, in any order; to the others it goes now and then: some of them end a run or a session.
_ALWAYS: Final = (
    *(f"POST {_AGNO}/{{run_id}}/continue", f"POST {_CODEGEN}/resume", f"GET {_CODEGEN}/{{agent_run_id}}/logs"),
    *(f"GET {_CODEGEN}s", f"GET {_AGNO}/{{run_id}}", "GET /approvals", "POST /approvals/{approval_id}/resolve"),
)
_RESOLVE: Final = "POST /approvals/{approval_id}/resolve"
# What the toolbox is told: to ask for a confirmation, to ask for an approval, to just answer.
_CONFIRMED: Final = plan([("delete_file", {"path": "a"})])
_MESSAGES: Final = (_CONFIRMED, DEPLOY, _CONFIRMED, DEPLOY, "hello")
_SUCCESS: Final = range(200, 300)

# Of a stream that has not ended by then only so many events are read.
_ALL: Final = 10_000

_OTHERS: Final = 2

MAIN_ROAD: Final = frozenset({*_BEGINNINGS, *_ALWAYS})


class Walker:
    """Walks from a new run on; ``succeeded`` counts the operations that answered with success on all walks."""

    def __init__(self, schema: BaseSchema, app: Starlette) -> None:
        self.succeeded: Counter[str] = Counter()
        self._app = app
        self._client = ASGIClient(cast("ASGIApp", app), ADDRESS, max_stream_events=_ALL)
        self._operations: dict[str, APIOperation[Any, Any, Any, Any]] = {
            found.ok().label: found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)
        }

    def walk(self, data: strategies.DataObject) -> None:
        """Make a run and send requests about it; fail where an answer is not as the document says."""
        known: Json = {"agent_id": "toolbox", "org_id": 1, "tools": []}
        known["message"] = known["prompt"] = data.draw(strategies.sampled_from(_MESSAGES))
        self._step(data, known, data.draw(strategies.sampled_from(_BEGINNINGS)))
        others = data.draw(strategies.lists(strategies.sampled_from(_FOLLOWING), max_size=_OTHERS))
        for label in data.draw(strategies.permutations([*_ALWAYS, *others])):
            if label == _RESOLVE and "approval_id" not in known:
                self._step(data, known, "GET /approvals")
            self._step(data, known, label)

    def _step(self, data: strategies.DataObject, known: Json, label: str) -> None:
        strategy = self._operations[label].as_strategy(generation_mode=GenerationMode.POSITIVE)
        case: Case[Any] = filled(data.draw(strategy), known, plain=True)
        if label == f"POST {_AGNO}":
            # A stream names the run, too, but no client reads its names from there.
            case.body = {"message": known["message"], "stream": False}
        elif label == f"POST {_AGNO}/{{run_id}}/continue":
            case.body = {"tools": json.dumps(known["tools"]), "stream": False}
        response = send_checked(case, self._app)
        if response.status_code in _SUCCESS:
            self.succeeded[label] += 1
            known |= _names_in(response)
            self._settle(known)

    def _settle(self, known: Json) -> None:
        """Wait until nobody executes the run: what the next request is answered must not hang on who is faster."""
        if "run_id" in known:
            self._client.get(f"/agents/{known['agent_id']}/runs/{known['run_id']}/events")


def _names_in(response: Response) -> Json:
    """Return what the answer says of names that later requests can use."""
    if response.headers.get("content-type") != ["application/json"]:
        return {}
    sent = response.json()
    match sent:
        case {"web_url": str(url), "id": number}:
            return {"run_id": url.rpartition("/")[2], "agent_run_id": number}
        case {"items": [{"web_url": str(url), "id": number}, *_]}:
            return {"run_id": url.rpartition("/")[2], "agent_run_id": number}
        case {"data": [{"id": approval_id, "approval_type": _}, *_]}:
            return {"approval_id": approval_id}
        case {"run_id": run_id, "session_id": session_id, "tools": list(tools)}:
            answers = [{"tool_call_id": tool["tool_call_id"], "confirmed": True} for tool in tools]
            return {"run_id": run_id, "session_id": session_id, "tools": answers}
        case _:
            return {}
