"""The one table of what every route answers to whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.access.expected import Answer

ADMIN: Final = ("agent_os:admin",)
RUN: Final = ("agents:run",)
# Any of them is enough.
FOLLOW: Final = ("agents:read", "agents:run")
SETUP: Final = ("setup:run",)
USERS: Final = ("users:read", "system:read")
ANYBODY: Final[tuple[str, ...]] = ()


@dataclass(frozen=True)
class Row:
    """One route: which scopes open it, what it is sent, and what it answers.

    ``done`` is the answer to the owner of the things with any one of ``scopes``, and to an administrator of their
    organization, unless they get ``admin``. ``stranger`` is the answer to an administrator of another organization who
    names the same things: on Codegen's routes in the path of their own organization, since that of another one is
    refused as such.
    """

    scopes: tuple[str, ...]
    done: Answer
    stranger: Answer
    form: Mapping[str, str] | None = None
    json: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    is_public: bool = False
    admin: Answer | None = None


def detail(status: int, message: str) -> Answer:
    """Return an error as AgentOS has it (agno.md section 2)."""
    return Answer(status, {"detail": message})


def message(status: int, text: str) -> Answer:
    """Return an error as Codegen has it (codegen.md section 4)."""
    return Answer(status, {"message": text, "status_code": status})


def public(answer: Answer) -> Row:
    """Return the row of a route that asks nobody who they are."""
    return Row(ANYBODY, answer, answer, is_public=True)


def same(scopes: tuple[str, ...], answer: Answer, **sent: Any) -> Row:  # noqa: ANN401 - the fields of a row
    """Return the row of a route that shows nothing of anybody's: it answers a stranger the same."""
    return Row(scopes, answer, answer, **sent)


def agno_list(data: Any) -> Any:  # noqa: ANN401 - JSON
    return {"data": data, "meta": {"total_count": len(data) if data is not ... else ..., ...: ...}}


def codegen_list(items: Any) -> Any:  # noqa: ANN401 - JSON
    total = len(items) if items is not ... else ...
    return {"items": items, "total": total, "page": 1, "size": 100, "pages": ...}


# What everybody hears who has no token that counts.
MISSING: Final = detail(401, "Authorization header missing")
INVALID: Final = detail(401, "Invalid authentication token")
EXPIRED: Final = detail(401, "Token has expired")
CODEGEN_UNKNOWN: Final = message(401, "Invalid or missing API token")
# What a member of one organization hears in the path of another.
CODEGEN_FOREIGN: Final = message(403, "You do not have access to this organization.")

_NO_RUN = detail(404, "Run not found")
_NO_APPROVAL = detail(404, "Approval not found")
_NO_SESSION = detail(404, "Session with ID {session_id} not found")
_NO_SESSION_TO_CHANGE = detail(404, "Session with id '{session_id}' not found")
_NO_AGENT_RUN = message(404, "Agent run not found.")
_FOREIGN = Answer(
    403, {"detail": "The console's cookie is accepted only from pages of this server", "error_code": "forbidden"}
)
_EMPTY = Answer(200, [])
_NOTHING = Answer(200, {})
_GONE = Answer(204)
_RUN_PATH = "/agents/{agent_id}/runs/{run_id}"
_PAUSED = {"run_id": "{run_id}", "status": "PAUSED", ...: ...}
_TOOLS = '[{"tool_call_id": "{tool_call_id}", "confirmed": true}]'
_APPROVAL = {"id": "{approval_id}", "status": "pending", ...: ...}
_SESSION = {"session_id": "{session_id}", ...: ...}
_STREAM = Answer(200, text="event: RunPaused")
_OWN_RUN = {"id": ..., "organization_id": "{home}", "status": "ACTIVE", ...: ...}
_PAUSED_RUN = {"id": "{agent_run_id}", "organization_id": 1, "status": "PAUSED", ...: ...}
_NAMED = {"agent_run_id": "{agent_run_id}"}
_LOG = {"id": "{agent_run_id}", "organization_id": 1, "status": "PAUSED", "logs": [..., ...], "total_logs": 2, ...: ...}
_NO_WEBHOOK = Answer(200, {"url": None, "enabled": False, "has_secret": False})
_WEBHOOK = {"url": "https://hooks.example/{home}", "enabled": False}
_PRIVATE = message(400, "The webhook URL leads to a private address or to this machine")

SERVER: Final[Mapping[str, Row]] = {
    "GET /": public(Answer(200, {"name": "Unpause", "version": ..., "docs": "/docs"})),
    "GET /health": public(Answer(200, {"status": "ok", "instantiated_at": ...})),
    "GET /ready": public(Answer(200, {"status": "ready"})),
    "GET /docs": public(Answer(200, text="<!DOCTYPE html>")),
    "GET /docs/start.js": public(Answer(200, text="SwaggerUIBundle")),
    "GET /docs/swagger-ui.css": public(Answer(200, text=".swagger-ui")),
    "GET /docs/swagger-ui-bundle.js": public(Answer(200, text="SwaggerUIBundle")),
    "GET /redoc": public(Answer(200, text="<!DOCTYPE html>")),
    "GET /redoc/logo-mini.svg": public(Answer(200, text="<svg")),
    "GET /redoc/redoc.standalone.js": public(Answer(200, text="Redoc")),
    **{
        f"GET {path}": public(Answer(200, text="<!DOCTYPE html>"))
        for path in (
            *(
                "/console",
                "/console/requests/{requirement_id}",
                "/console/tokens",
                "/console/sign-in",
                "/console/login",
            ),
            *("/console/runs", "/console/runs/{run_id}", "/console/sessions", "/console/sessions/{session_id}"),
            *("/console/overview", "/console/grants"),
        )
    },
    "GET /console/static/{name}": public(detail(404, "Not Found")),
    # Only pages of this server may send these; `tests/api/console` does.
    "POST /console/sign-in": public(_FOREIGN),
    "POST /console/login": public(_FOREIGN),
    "POST /console/sign-out": public(_FOREIGN),
    "GET /openapi.json": public(Answer(200, {"openapi": ..., "paths": ..., ...: ...})),
}

AGENTOS: Final[Mapping[str, Row]] = {
    "GET /me": Row(
        ANYBODY,
        Answer(200, {"user_id": "{me}", "organization_id": 1, ...: ...}),
        Answer(200, {"user_id": "stranger", "organization_id": "{home}", ...: ...}),
    ),
    "GET /config": same(("system:read",), Answer(200, {"os_id": "unpause", ...: ...})),
    "GET /models": same(("system:read",), Answer(200, [{"id": "planned-1", "provider": ...}])),
    "GET /teams": same(ANYBODY, _EMPTY),
    "GET /workflows": same(ANYBODY, _EMPTY),
    "GET /agents": same(FOLLOW, Answer(200, [{"id": "toolbox", ...: ...}, {"id": "other", ...: ...}])),
    "GET /agents/{agent_id}": same(FOLLOW, Answer(200, {"id": "toolbox", ...: ...})),
    # Ids of sessions are given once in an organization: a stranger's is another one.
    "POST /agents/{agent_id}/runs": same(
        RUN,
        Answer(200, {"status": "COMPLETED", "session_id": "{session_id}", "user_id": "{me}", ...: ...}),
        form={"message": "hello", "stream": "false", "session_id": "{session_id}", "user_id": "{me}"},
    ),
    "GET /agents/{agent_id}/runs": Row(
        FOLLOW,
        Answer(200, [{"run_id": ..., ...: ...}, {"run_id": ..., ...: ...}]),
        _EMPTY,
        query={"session_id": "{session_id}"},
    ),
    f"GET {_RUN_PATH}": Row(FOLLOW, Answer(200, _PAUSED), _NO_RUN),
    f"POST {_RUN_PATH}/continue": Row(
        RUN,
        Answer(200, {"run_id": "{run_id}", "status": "COMPLETED", ...: ...}),
        detail(404, "No runs found for run ID {run_id}"),
        form={"tools": _TOOLS, "stream": "false"},
    ),
    f"POST {_RUN_PATH}/cancel": Row(RUN, _NOTHING, _NO_RUN),
    f"POST {_RUN_PATH}/pause": Row(RUN, _NOTHING, _NO_RUN),
    f"GET {_RUN_PATH}/events": Row(FOLLOW, _STREAM, _NO_RUN),
    f"POST {_RUN_PATH}/events/ticket": Row(FOLLOW, Answer(200, {"ticket": ..., "expires_at": ...}), _NO_RUN),
    f"POST {_RUN_PATH}/resume": Row(FOLLOW, _STREAM, _NO_RUN),
    "GET /approvals": Row(
        ("approvals:read",), Answer(200, agno_list([_APPROVAL])), Answer(200, agno_list([])), query={"run_id": "{held}"}
    ),
    "GET /approvals/count": Row(("approvals:read",), Answer(200, {"count": "{pending}"}), Answer(200, {"count": 0})),
    "GET /approvals/{approval_id}": Row(("approvals:read",), Answer(200, _APPROVAL), _NO_APPROVAL),
    "GET /approvals/{approval_id}/status": Row(
        ("approvals:read",), Answer(200, {"approval_id": "{approval_id}", "status": "pending", ...: ...}), _NO_APPROVAL
    ),
    "POST /approvals/{approval_id}/resolve": Row(
        ("approvals:write",),
        Answer(200, {"id": "{approval_id}", "status": "approved", "resolved_by": "{me}", ...: ...}),
        _NO_APPROVAL,
        json={"status": "approved"},
    ),
    "DELETE /approvals/{approval_id}": Row(("approvals:delete",), _GONE, _NO_APPROVAL),
    "GET /sessions": Row(
        ("sessions:read",),
        Answer(200, agno_list([_SESSION])),
        Answer(200, agno_list([])),
        query={"session_name": "{session_name}"},
    ),
    "POST /sessions": same(
        ("sessions:write",),
        Answer(201, {"session_id": "{session_id}-2", "user_id": "{me}", ...: ...}),
        json={"session_id": "{session_id}-2", "user_id": "{me}"},
    ),
    "DELETE /sessions": same(
        ("sessions:delete",), _GONE, json={"session_ids": ["{session_id}"], "session_types": ["agent"]}
    ),
    "GET /sessions/{session_id}": Row(
        ("sessions:read",), Answer(200, _SESSION), detail(404, "Agent Session with id '{session_id}' not found")
    ),
    "PATCH /sessions/{session_id}": Row(
        ("sessions:write",), Answer(200, _SESSION), _NO_SESSION_TO_CHANGE, json={"session_name": "another name"}
    ),
    # One that does not exist is as good as removed.
    "DELETE /sessions/{session_id}": same(("sessions:delete",), _GONE),
    "POST /sessions/{session_id}/rename": Row(
        ("sessions:write",), Answer(200, _SESSION), _NO_SESSION_TO_CHANGE, json={"session_name": "another name"}
    ),
    "GET /sessions/{session_id}/runs": Row(("sessions:read",), Answer(200, [..., ...]), _NO_SESSION),
    "GET /sessions/{session_id}/run-previews": Row(("sessions:read",), Answer(200, [..., ...]), _NO_SESSION),
    "GET /sessions/{session_id}/runs/{run_id}": Row(
        ("sessions:read",), Answer(200, {"run_id": "{run_id}", ...: ...}), _NO_SESSION
    ),
    "GET /audit": Row(
        ADMIN,
        Answer(200, agno_list([{"action": "approval.resolved", "run_id": "{decided}", ...: ...}])),
        Answer(200, agno_list([])),
        query={"run_id": "{decided}"},
    ),
}

_REQUEST = {"requirement_id": "{requirement_id}", "status": "open", "may_decide": True, ...: ...}
_NATIVE_NO_RUN = Answer(404, {"detail": "Run not found", "error_code": "not_found"})
_STATE = {"run_id": "{run_id}", "status": "PAUSED"}
_GRANT = {"grant_id": "{grant_id}", "tool_name": "publish", ...: ...}
_NO_GRANT = Answer(404, {"detail": "Grant not found", "error_code": "not_found"})
_NO_REQUIREMENT = Answer(404, {"detail": "Requirement not found", "error_code": "not_found"})

_RUN_INPUT = {"runId": "{session_id}-run", "messages": [{"id": "1", "role": "user", "content": "hello"}]}
_CHANNEL = {"channel_id": ..., "kind": "json", "owner": "user", "user_id": "{me}", "events": ["failed"], ...: ...}
_NEW_CHANNEL = {"url": "json://127.0.0.1:9/", "events": ["failed"]}
_NO_CHANNEL = Answer(404, {"detail": "Channel not found", ...: ...})
_UNREACHED = Answer(200, {"success": False, "error": "the address is private or of this machine"})

# What a caller sees is decided request by request: each has an inbox, and what is in it depends on its scopes.
NATIVE: Final[Mapping[str, Row]] = {
    # A thread of that name is another one in each organization.
    "POST /agents/{agent_id}/ag-ui": same(
        RUN, Answer(200, text='"outcome":{"type":"success"}'), json={**_RUN_INPUT, "threadId": "{session_id}-3"}
    ),
    "GET /agents/{agent_id}/ag-ui/{run_id}/events": Row(
        FOLLOW, Answer(200, text='"outcome":{"type":"interrupt"'), _NATIVE_NO_RUN
    ),
    # An administrator sees those of all users, and the owner's is the first.
    "GET /notifications/channels": Row(
        ANYBODY,
        Answer(200, {"data": [{**_CHANNEL, "channel_id": "{channel_id}", "user_id": "alice"}], "next": "{channel_id}"}),
        Answer(200, {"data": [], "next": None}),
        query={"limit": "1"},
    ),
    "POST /notifications/channels": same(ANYBODY, Answer(201, _CHANNEL), json=_NEW_CHANNEL),
    "DELETE /notifications/channels/{channel_id}": Row(ANYBODY, _GONE, _NO_CHANNEL),
    "POST /notifications/channels/{channel_id}/test": Row(ANYBODY, _UNREACHED, _NO_CHANNEL),
    "GET /inbox": Row(
        ANYBODY,
        Answer(200, {"data": ..., "next": None}),
        Answer(200, {"data": [], "next": None}),
        query={"session_id": "{session_id}"},
    ),
    "POST /inbox/decide": Row(
        ANYBODY,
        Answer(200, {"data": [{"requirement_id": "{requirement_id}", "status_code": 404, ...: ...}]}),
        Answer(200, {"data": [{"requirement_id": "{requirement_id}", "status_code": 404, ...: ...}]}),
        json={"decisions": [{"requirement_id": "{requirement_id}", "decision": "approve"}]},
        admin=Answer(200, {"data": [{"requirement_id": "{requirement_id}", "status_code": 200, ...: ...}]}),
    ),
    "POST /inbox/{requirement_id}/decide": Row(
        ANYBODY,
        _NO_REQUIREMENT,
        _NO_REQUIREMENT,
        json={"decision": "approve"},
        admin=Answer(200, {"requirement": {"status": "decided", ...: ...}, "run": ..., "continued": True}),
    ),
    "GET /inbox/events": same(ANYBODY, Answer(200, text=""), query={"follow": "false"}),
    "GET /inbox/{requirement_id}": Row(ANYBODY, _NO_REQUIREMENT, _NO_REQUIREMENT, admin=Answer(200, _REQUEST)),
    "GET /tokens": Row(
        ADMIN,
        Answer(200, {"data": ..., "next": ...}),
        Answer(200, {"data": [{"user_id": "stranger", ...: ...}], "next": None}),
    ),
    "GET /grants": Row(
        ANYBODY,
        Answer(200, {"data": [{**_GRANT, "active": True}], "next": None}),
        Answer(200, {"data": [], "next": None}),
        query={"session_id": "{granted}"},
    ),
    "DELETE /grants/{grant_id}": Row(ANYBODY, Answer(200, {**_GRANT, "active": False}), _NO_GRANT),
    "GET /runs": Row(
        FOLLOW,
        Answer(200, {"data": [{"run_id": "{run_id}", ...: ...}], "next": None}),
        Answer(200, {"data": [], "next": None}),
        query={"search": "{run_id}"},
    ),
    "GET /runs/{run_id}": Row(FOLLOW, Answer(200, {**_STATE, ...: ...}), _NATIVE_NO_RUN),
    "GET /runs/{run_id}/timeline": Row(FOLLOW, Answer(200, {"data": ..., ...: ...}), _NATIVE_NO_RUN),
    # The run has none.
    "GET /runs/{run_id}/images/{prompt_number}/{image_number}": Row(
        FOLLOW, Answer(404, {"detail": "Image not found", "error_code": "not_found"}), _NATIVE_NO_RUN
    ),
    "POST /runs/{run_id}/cancel": Row(RUN, Answer(200, {**_STATE, "status": "CANCELLED"}), _NATIVE_NO_RUN),
    "POST /runs/{run_id}/pause": Row(RUN, Answer(200, _STATE), _NATIVE_NO_RUN),
    "POST /runs/{run_id}/resume": Row(
        RUN, Answer(200, {**_STATE, "status": ...}), _NATIVE_NO_RUN, json={"prompt": "no"}
    ),
    "POST /tokens": same(
        ADMIN, Answer(200, {"token": {"user_id": "{me}", ...: ...}, "text": ...}), json={"user_id": "{me}"}
    ),
    "DELETE /tokens/{token_id}": Row(
        ADMIN,
        Answer(200, {"token_id": "{token_id}", "valid": False, ...: ...}),
        Answer(404, {"detail": "Token not found", "error_code": "not_found"}),
    ),
    "GET /overview": same(("system:read",), Answer(200, {"runs": ..., "workers": ..., ...: ...})),
}

_CODEGEN: Mapping[str, Row] = {
    "POST /agent/run": same(RUN, Answer(200, _OWN_RUN), json={"prompt": "hello"}),
    "GET /agent/run/{agent_run_id}": Row(FOLLOW, Answer(200, _PAUSED_RUN), _NO_AGENT_RUN),
    "GET /agent/runs": Row(FOLLOW, Answer(200, codegen_list(...)), Answer(200, codegen_list([]))),
    "GET /agent/run/{agent_run_id}/logs": Row(FOLLOW, Answer(200, _LOG), _NO_AGENT_RUN),
    "POST /agent/run/resume": Row(
        RUN,
        Answer(200, {"id": "{agent_run_id}", "status": "ACTIVE", ...: ...}),
        _NO_AGENT_RUN,
        json={**_NAMED, "prompt": "no"},
    ),
    "POST /agent/run/pause": Row(RUN, Answer(200, _PAUSED_RUN), _NO_AGENT_RUN, json=_NAMED),
    "POST /agent/run/ban": Row(
        RUN, Answer(200, {"message": "Agent run {agent_run_id} has ended: CANCELLED."}), _NO_AGENT_RUN, json=_NAMED
    ),
    "POST /agent/run/remove-from-pr": Row(
        RUN, Answer(200, {"message": "Agent run {agent_run_id} has ended: CANCELLED."}), _NO_AGENT_RUN, json=_NAMED
    ),
    "POST /agent/run/unban": Row(
        RUN,
        Answer(200, {"message": "Nothing is banned here. Agent run {agent_run_id} stays PAUSED."}),
        _NO_AGENT_RUN,
        json=_NAMED,
    ),
    "POST /setup-commands/generate": same(
        SETUP,
        message(400, "Setup commands are off: the server was started without --workspace-root"),
        json={"repo_id": 1},
    ),
    "GET /users": Row(
        USERS, Answer(200, codegen_list(...)), Answer(200, codegen_list([{"github_username": "{me}", ...: ...}]))
    ),
    "GET /users/{user_id}": Row(
        USERS, Answer(200, {"github_username": "alice", ...: ...}), message(404, "User not found.")
    ),
    "GET /models": same(ANYBODY, Answer(200, {"providers": ..., "default_model": ...})),
    "GET /repos": same(ANYBODY, Answer(200, codegen_list([]))),
    "GET /integrations": same(ANYBODY, Answer(200, {"organization_id": "{home}", "integrations": [], ...: ...})),
    "GET /cli/rules": same(ANYBODY, Answer(200, {"organization_rules": None, "user_custom_prompt": None})),
    "GET /webhooks/agent-run": Row(
        ADMIN, Answer(200, {"url": "https://hooks.example/1", "enabled": False, "has_secret": False}), _NO_WEBHOOK
    ),
    "POST /webhooks/agent-run": same(ADMIN, Answer(200, {**_WEBHOOK, "has_secret": False}), json=_WEBHOOK),
    "DELETE /webhooks/agent-run": same(ADMIN, _NO_WEBHOOK),
    "POST /webhooks/agent-run/test": same(ADMIN, _PRIVATE, json={"url": "http://127.0.0.1:9/"}),
    "GET /audit": Row(
        ADMIN,
        Answer(200, codegen_list([{"action": "approval.resolved", "run_id": "{decided}", ...: ...}])),
        Answer(200, codegen_list([])),
        query={"run_id": "{decided}"},
    ),
}


def _placed(prefix: str, rows: Mapping[str, Row]) -> dict[str, Row]:
    return {route.replace(" ", f" {prefix}", 1): row for route, row in rows.items()}


CODEGEN: Final[Mapping[str, Row]] = {
    **_placed("/v1/organizations/{org_id}", _CODEGEN),
    "GET /v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs": Row(FOLLOW, Answer(200, _LOG), _NO_AGENT_RUN),
    "GET /v1/users/me": same(ANYBODY, Answer(200, {"github_username": "{me}", ...: ...})),
    "GET /v1/organizations": same(ANYBODY, Answer(200, codegen_list([{"id": "{home}", ...: ...}]))),
    "GET /v1/mcp-providers": same(ANYBODY, _EMPTY),
}

TABLE: Final[Mapping[str, Row]] = {**SERVER, **AGENTOS, **NATIVE, **CODEGEN}


def scope_missing(path: str, scope: str) -> Answer:
    """Return what somebody hears whose token was not made for the route."""
    text = f"Insufficient permissions. Required scope(s): {scope}"
    if path in {route.partition(" ")[2] for route in NATIVE}:
        return Answer(403, {"detail": text, "error_code": "forbidden"})
    return message(403, text) if path.startswith("/v1/") else detail(403, text)
