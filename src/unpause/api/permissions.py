"""What each route asks of who calls it: one row a route. A route without a row does not start.

The scopes of AgentOS's routes are those of agno.md section 2. Codegen's API knows no scopes: its routes ask for what
the same thing needs over there, and every one with an organization in its path for a member of that (``members.py``).
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

# Any of these is enough; none means that a valid token is.
Scopes = tuple[str, ...]

_RUN: Scopes = ("agents:run",)
# Whoever may run an agent may see what becomes of it.
_FOLLOW: Scopes = ("agents:read", "agents:run")
# Whoever sees how the server is set up sees its users, too: so could every token that was made without scopes.
_USERS: Scopes = ("users:read", "system:read")
_ADMIN: Scopes = (ADMIN,)
_ANYBODY: Scopes = ()

# Codegen's routes; all others are AgentOS's.
CODEGEN_PREFIX = "/v1/"

# Nobody is asked who they are.
PUBLIC = frozenset({"/", "/health", "/ready", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/redoc"})

_AGENTOS: dict[str, Scopes] = {
    "GET /": _ANYBODY,
    "GET /config": ("system:read",),
    "GET /models": ("system:read",),
    "GET /teams": _ANYBODY,
    "GET /workflows": _ANYBODY,
    "GET /agents": _FOLLOW,
    "GET /agents/{agent_id}": _FOLLOW,
    "POST /agents/{agent_id}/runs": _RUN,
    "GET /agents/{agent_id}/runs": _FOLLOW,
    "GET /agents/{agent_id}/runs/{run_id}": _FOLLOW,
    "POST /agents/{agent_id}/runs/{run_id}/continue": _RUN,
    "POST /agents/{agent_id}/runs/{run_id}/cancel": _RUN,
    "POST /agents/{agent_id}/runs/{run_id}/pause": _RUN,
    "GET /agents/{agent_id}/runs/{run_id}/events": _FOLLOW,
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
    "GET /models": _ANYBODY,
    "GET /repos": _ANYBODY,
    "GET /integrations": _ANYBODY,
    "GET /cli/rules": _ANYBODY,
    # Whoever sets where news of all runs go reads them all.
    "GET /webhooks/agent-run": _ADMIN,
    "POST /webhooks/agent-run": _ADMIN,
    "DELETE /webhooks/agent-run": _ADMIN,
    "POST /webhooks/agent-run/test": _ADMIN,
    "GET /audit": _ADMIN,
}


def _placed(prefix: str, routes: Mapping[str, Scopes]) -> dict[str, Scopes]:
    return {route.replace(" ", f" {prefix}", 1): scopes for route, scopes in routes.items()}


PERMISSIONS: Mapping[str, Scopes] = MappingProxyType(
    {
        **_AGENTOS,
        **_placed("/v1/organizations/{org_id}", _OF_ORGANIZATION),
        "GET /v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs": _FOLLOW,
        "GET /v1/users/me": _ANYBODY,
        "GET /v1/organizations": _ANYBODY,
        "GET /v1/mcp-providers": _ANYBODY,
    }
)


def principal_of(request: Request) -> Principal:
    """Return who asks: every request that comes to a route was asked for that (``access.py``)."""
    principal: Principal = request.state.principal
    return principal


def permission_of(methods: set[str] | None, path: str) -> Scopes:
    """Return what the route asks for; raise KeyError for one without a row."""
    (method,) = methods or {"GET"}
    return PERMISSIONS[f"{method} {path}"]


def check_permission(principal: Principal, wanted: Scopes, request: Request) -> None:
    """Raise ScopeMissing unless one of the scopes is there: for the agent in the path, if any."""
    if wanted and not any(_has(principal, scope, request) for scope in wanted):
        raise ScopeMissing(wanted[0])


def _has(principal: Principal, scope: str, request: Request) -> bool:
    if not scope.startswith("agents:"):
        return principal.may(scope)
    agent_id = request.path_params.get("agent_id")
    if agent_id is not None:
        return principal.may(scope, agent_id)
    # Without an agent in the path, the run says which one it is (`services/runs.py`), and AgentOS lists the agents that
    # may be seen. Codegen's reads show the runs of all agents.
    shows_all = request.method == "GET" and request.scope["path"].startswith(CODEGEN_PREFIX)
    return principal.may(scope) if shows_all else principal.may_any_agent(_action(scope))


def _action(scope: str) -> str:
    return scope.partition(":")[2]
