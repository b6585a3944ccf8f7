"""What a caller may do: names such as ``agents:run``, ``agents:ops:run`` or ``agent_os:admin`` (agno.md section 2)."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType

ADMIN = "agent_os:admin"
# To say which shell commands the server runs in a checkout. Nothing else grants it but ADMIN.
SETUP = "setup:run"

# What a token may do whose maker said nothing: work with one's own runs and sessions, and see what waits.
USUAL = (
    "agents:read",
    "agents:run",
    "approvals:read",
    "sessions:read",
    "sessions:write",
    "sessions:delete",
    "system:read",
)

# Newer tokens say `config:read` where older ones say `system:read`.
_ALIASES = MappingProxyType({"config": "system"})
_ANY = "*"

# All that anything here asks for; a scope of one of these resources that is not here has a spelling mistake in it.
# Others are the operator's own, for `approvers` of a tool.
_KNOWN = frozenset({*USUAL, ADMIN, "approvals:write", "approvals:delete", "users:read", SETUP})
_RESOURCES = frozenset(scope.partition(":")[0] for scope in _KNOWN) | _ALIASES.keys()
_PER_AGENT = frozenset({"read", "run"})


def is_known(scope: str) -> bool:
    """Whether the scope may mean something here."""
    resource, _, rest = scope.partition(":")
    if resource not in _RESOURCES:
        return bool(resource and rest) and scope.isprintable() and " " not in scope
    name = f"{_ALIASES.get(resource, resource)}:{rest}"
    if name in _KNOWN:
        return True
    agent, _, action = rest.rpartition(":")
    return resource == "agents" and bool(agent) and action in _PER_AGENT


def allows(scopes: Iterable[str], wanted: str, agent_id: str | None = None) -> bool:
    """Whether one of the scopes grants ``wanted``, such as ``agents:run``, of one agent or of all of them.

    What an agent may be done with is granted for all (``agents:run``, ``agents:*:run``) or by name
    (``agents:ops:run``). An agent's name may hold colons.
    """
    resource, _, action = wanted.partition(":")
    return any(_grants(scope, resource, action, agent_id) for scope in scopes)


def allows_any_agent(scopes: Iterable[str], action: str) -> bool:
    """Whether there may be an agent that one of the scopes grants the action of."""
    return any(
        _grants(scope, "agents", action, None)
        or (scope.startswith("agents:") and scope.endswith(f":{action}") and scope.count(":") > 1)
        for scope in scopes
    )


def _grants(scope: str, resource: str, action: str, agent_id: str | None) -> bool:
    if scope == ADMIN:
        return True
    named, _, rest = scope.partition(":")
    if _ALIASES.get(named, named) != resource:
        return False
    return rest in {action, f"{_ANY}:{action}"} or (agent_id is not None and rest == f"{agent_id}:{action}")
