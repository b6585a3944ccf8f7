"""Scopes, with AgentOS's names: ``agents:run``, ``agents:ops:run`` for one agent, ``agent_os:admin`` for all."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from types import MappingProxyType

ADMIN = "agent_os:admin"
# To choose the shell commands that the server runs in a checkout. Only ADMIN implies it.
SETUP = "setup:run"

# The figures of all organizations, for a Prometheus. Not even ADMIN implies it.
METRICS = "metrics:read"

# The scopes of a token created without any: to work with one's own runs and sessions, and to see what waits.
DEFAULT_SCOPES = (
    "agents:read",
    "agents:run",
    "approvals:read",
    "sessions:read",
    "sessions:write",
    "sessions:delete",
    "system:read",
)

# Newer tokens have `config:read` where older ones have `system:read`.
_ALIASES = MappingProxyType({"config": "system"})
_ANY = "*"

# All scopes that a route requires; an unknown scope of one of their resources is a spelling mistake. Scopes of other
# resources are the operator's own, for `approvers` of a tool.
_KNOWN = frozenset({*DEFAULT_SCOPES, ADMIN, "approvals:write", "approvals:delete", "users:read", SETUP, METRICS})
_RESOURCES = frozenset(scope.partition(":")[0] for scope in _KNOWN) | _ALIASES.keys()
_PER_AGENT = frozenset({"read", "run"})


def is_known(scope: str) -> bool:
    """Whether the scope is known, or an operator's own."""
    resource, _, rest = scope.partition(":")
    if resource not in _RESOURCES:
        return bool(resource and rest) and scope.isprintable() and " " not in scope
    name = f"{_ALIASES.get(resource, resource)}:{rest}"
    if name in _KNOWN:
        return True
    agent, _, action = rest.rpartition(":")
    return resource == "agents" and bool(agent) and action in _PER_AGENT


def describe_unknown(scopes: Iterable[str]) -> str | None:
    """Return what is wrong with the first scope that is a spelling mistake, and the nearest known one; else None."""
    unknown = next((scope for scope in scopes if not is_known(scope)), None)
    if unknown is None:
        return None
    near = get_close_matches(unknown, sorted(_KNOWN), 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(_KNOWN))}"
    return f"Unknown scope: {unknown} ({hint})"


def allows(scopes: Iterable[str], required: str, agent_id: str | None = None) -> bool:
    """Whether one of the scopes grants ``required``, such as ``agents:run``, for one agent or for all.

    Scopes of agents are for all (``agents:run``, ``agents:*:run``) or for one (``agents:ops:run``). An agent's name
    may contain colons.
    """
    resource, _, action = required.partition(":")
    return any(_grants(scope, resource, action, agent_id) for scope in scopes)


def allows_any_agent(scopes: Iterable[str], action: str) -> bool:
    """Whether one of the scopes grants the action for any agent."""
    return any(
        _grants(scope, "agents", action, None)
        or (scope.startswith("agents:") and scope.endswith(f":{action}") and scope.count(":") > 1)
        for scope in scopes
    )


def agents_named(scopes: Iterable[str], actions: Iterable[str]) -> frozenset[str] | None:
    """Return the agents for which the scopes grant one of the actions; None for all agents."""
    allowed, named = frozenset(actions), set()
    for scope in scopes:
        resource, _, rest = scope.partition(":")
        agent, colon, action = rest.rpartition(":")
        if scope == ADMIN or (resource == "agents" and action in allowed and (not colon or agent == _ANY)):
            return None
        if resource == "agents" and action in allowed:
            named.add(agent)
    return frozenset(named)


def names_granted(scopes: Iterable[str]) -> frozenset[str]:
    """Return the scopes, not of single agents, that these grant: those for which ``allows`` is true without ADMIN."""
    names = set()
    for scope in scopes:
        named, _, rest = scope.partition(":")
        resource = _ALIASES.get(named, named)
        actions = {rest, rest.removeprefix(f"{_ANY}:")}
        names |= {f"{resource}:{action}" for action in actions}
        if "" in actions:
            names.add(resource)
    return frozenset(names)


def _grants(scope: str, resource: str, action: str, agent_id: str | None) -> bool:
    if scope == ADMIN:
        return True
    named, _, rest = scope.partition(":")
    if _ALIASES.get(named, named) != resource:
        return False
    return rest in {action, f"{_ANY}:{action}"} or (agent_id is not None and rest == f"{agent_id}:{action}")
