"""The scopes that each route requires: one row a route. The server does not start with a route that has no row.

AgentOS's routes require AgentOS's scopes. Codegen's API has no scopes: its routes require those of the same operation
in AgentOS's, and membership of the organization in the path (``codegen/caller.py``).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from unpause.domain.scopes import ADMIN, SETUP
from unpause.errors import ScopeMissing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from unpause.domain.principal import Principal

# Any one of these is enough; an empty tuple requires only a valid token.
Scopes = tuple[str, ...]

_RUN: Scopes = ("agents:run",)
# A caller who may run an agent may see its runs.
_FOLLOW: Scopes = ("agents:read", "agents:run")
# A token with the default scopes can read users, too.
_USERS: Scopes = ("users:read", "system:read")
_ADMIN: Scopes = (ADMIN,)
_ANY_TOKEN: Scopes = ()

# Codegen's routes; all others are AgentOS's.
CODEGEN_PREFIX = "/v1/"
METRICS_PATH = "/metrics"

# The console's pages, scripts and sign-in need no authentication: what they show comes from other routes.
CONSOLE_PATH = "/console"

# Routes without authentication.
PUBLIC = frozenset(
    {
        *("/", "/health", "/ready", "/openapi.json"),
        *("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"),
        *("/redoc", "/redoc/redoc.standalone.js", "/redoc/logo-mini.svg"),
    }
)


def is_public(path: str) -> bool:
    """Whether the path needs no authentication."""
    return path in PUBLIC or path == CONSOLE_PATH or path.startswith(f"{CONSOLE_PATH}/")


_AGENTOS: dict[str, Scopes] = {
    "GET /": _ANY_TOKEN,
    "GET /health": _ANY_TOKEN,
    "GET /ready": _ANY_TOKEN,
    "GET /config": ("system:read",),
    "GET /models": ("system:read",),
    "GET /teams": _ANY_TOKEN,
    "GET /workflows": _ANY_TOKEN,
    "GET /agents": _FOLLOW,
    "GET /agents/{agent_id}": _FOLLOW,
    "POST /agents/{agent_id}/runs": _RUN,
    "GET /agents/{agent_id}/runs": _FOLLOW,
    "GET /agents/{agent_id}/runs/{run_id}": _FOLLOW,
    "POST /agents/{agent_id}/runs/{run_id}/continue": _RUN,
    "POST /agents/{agent_id}/runs/{run_id}/cancel": _RUN,
    "POST /agents/{agent_id}/runs/{run_id}/pause": _RUN,
    "GET /agents/{agent_id}/runs/{run_id}/events": _FOLLOW,
    "POST /agents/{agent_id}/runs/{run_id}/events/ticket": _FOLLOW,
    "POST /agents/{agent_id}/runs/{run_id}/resume": _FOLLOW,
    "GET /approvals": ("approvals:read",),
    "GET /approvals/count": ("approvals:read",),
    "GET /approvals/{approval_id}": ("approvals:read",),
    "GET /approvals/{approval_id}/status": ("approvals:read",),
    "POST /approvals/{approval_id}/resolve": ("approvals:write",),
    "DELETE /approvals/{approval_id}": ("approvals:delete",),
    "GET /sessions": ("sessions:read",),
    "POST /sessions": ("sessions:write",),
    "DELETE /sessions": ("sessions:delete",),
    "GET /sessions/{session_id}": ("sessions:read",),
    "PATCH /sessions/{session_id}": ("sessions:write",),
    "DELETE /sessions/{session_id}": ("sessions:delete",),
    "POST /sessions/{session_id}/rename": ("sessions:write",),
    "GET /sessions/{session_id}/runs": ("sessions:read",),
    "GET /sessions/{session_id}/run-previews": ("sessions:read",),
    "GET /sessions/{session_id}/runs/{run_id}": ("sessions:read",),
    "GET /audit": _ADMIN,
    "GET /me": _ANY_TOKEN,
    "POST /console/sign-in": _ANY_TOKEN,
    "POST /console/login": _ANY_TOKEN,
    "POST /console/sign-out": _ANY_TOKEN,
    "GET /runs": _FOLLOW,
    "GET /runs/{run_id}": _FOLLOW,
    "GET /runs/{run_id}/timeline": _FOLLOW,
    "GET /runs/{run_id}/images/{prompt_number}/{image_number}": _FOLLOW,
    "POST /runs/{run_id}/cancel": _RUN,
    "POST /runs/{run_id}/pause": _RUN,
    "POST /runs/{run_id}/resume": _RUN,
    "GET /overview": ("system:read",),
    "GET /tokens": _ADMIN,
    "POST /tokens": _ADMIN,
    "DELETE /tokens/{token_id}": _ADMIN,
}

# Who may see and decide what is decided request by request: an approver may have any scope that a tool names.
_NATIVE: dict[str, Scopes] = {
    "GET /inbox": _ANY_TOKEN,
    "GET /inbox/events": _ANY_TOKEN,
    "GET /inbox/{requirement_id}": _ANY_TOKEN,
    "GET /grants": _ANY_TOKEN,
    "DELETE /grants/{grant_id}": _ANY_TOKEN,
    "POST /inbox/decide": _ANY_TOKEN,
    "POST /inbox/{requirement_id}/decide": _ANY_TOKEN,
    # Their own; those of the organization only administrators.
    "GET /notifications/channels": _ANY_TOKEN,
    "POST /notifications/channels": _ANY_TOKEN,
    "DELETE /notifications/channels/{channel_id}": _ANY_TOKEN,
    "POST /notifications/channels/{channel_id}/test": _ANY_TOKEN,
    "POST /agents/{agent_id}/ag-ui": _RUN,
    "GET /agents/{agent_id}/ag-ui/{run_id}/events": _FOLLOW,
}

_OF_ORGANIZATION: dict[str, Scopes] = {
    "POST /agent/run": _RUN,
    "GET /agent/run/{agent_run_id}": _FOLLOW,
    "GET /agent/runs": _FOLLOW,
    "GET /agent/run/{agent_run_id}/logs": _FOLLOW,
    "POST /agent/run/resume": _RUN,
    "POST /agent/run/pause": _RUN,
    "POST /agent/run/ban": _RUN,
    "POST /agent/run/remove-from-pr": _RUN,
    "POST /agent/run/unban": _RUN,
    "POST /setup-commands/generate": (SETUP,),
    "GET /users": _USERS,
    "GET /users/{user_id}": _USERS,
    "GET /models": _ANY_TOKEN,
    "GET /repos": _ANY_TOKEN,
    "GET /integrations": _ANY_TOKEN,
    "GET /cli/rules": _ANY_TOKEN,
    # A webhook of the organization gets messages about all runs.
    "GET /webhooks/agent-run": _ADMIN,
    "POST /webhooks/agent-run": _ADMIN,
    "DELETE /webhooks/agent-run": _ADMIN,
    "POST /webhooks/agent-run/test": _ADMIN,
    "GET /audit": _ADMIN,
}


def _with_prefix(prefix: str, routes: Mapping[str, Scopes]) -> dict[str, Scopes]:
    return {route.replace(" ", f" {prefix}", 1): scopes for route, scopes in routes.items()}


PERMISSIONS: Mapping[str, Scopes] = MappingProxyType(
    {
        **_AGENTOS,
        **_NATIVE,
        **_with_prefix("/v1/organizations/{org_id}", _OF_ORGANIZATION),
        "GET /v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs": _FOLLOW,
        "GET /v1/users/me": _ANY_TOKEN,
        "GET /v1/organizations": _ANY_TOKEN,
        "GET /v1/mcp-providers": _ANY_TOKEN,
    }
)


def principal_of(request: Request) -> Principal:
    """Return the caller, which the authentication middleware has put into the request's state."""
    principal: Principal = request.state.principal
    return principal


def permission_of(methods: set[str] | None, path: str) -> Scopes:
    """Return the scopes that the route requires; raise KeyError for one without a row."""
    (method,) = methods or {"GET"}
    return PERMISSIONS[f"{method} {path}"]


def check_permission(principal: Principal, required: Scopes, request: Request) -> None:
    """Raise ScopeMissing unless the principal has one of the scopes, for the agent in the path if there is one."""
    if required and not any(_has(principal, scope, request) for scope in required):
        raise ScopeMissing(required[0])


def _has(principal: Principal, scope: str, request: Request) -> bool:
    if not scope.startswith("agents:"):
        return principal.may(scope)
    agent_id = request.path_params.get("agent_id")
    if agent_id is not None:
        return principal.may(scope, agent_id)
    # Without an agent in the path the service checks the run's agent, and AgentOS lists only visible agents. Codegen's
    # reads show the runs of all agents.
    shows_all = request.method == "GET" and request.scope["path"].startswith(CODEGEN_PREFIX)
    return principal.may(scope) if shows_all else principal.may_any_agent(scope.partition(":")[2])
