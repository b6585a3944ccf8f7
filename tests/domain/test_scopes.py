"""What scopes grant, looked up for one name, is what a query gets of them as a list."""

from __future__ import annotations

from itertools import combinations

from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN, allows, names_granted

_SCOPES = (
    *("agents:run", "agents:read", "agents:*:run", "agents:ops:run", "agents::run", "agents:a:b:read", "agents"),
    *("config:read", "system:read", "ops:approve", "ops:*:approve", "ops:*:*", "ops:", "lone", ":x", "", "user:ada"),
)
_AGENTS = ("ops", "a:b", "", "*", "other")


def test_the_agents_that_scopes_name_are_those_that_they_allow() -> None:
    for scopes in (*combinations(_SCOPES, 2), (ADMIN,)):
        principal = Principal(1, scopes=frozenset(scopes))
        for actions in (("run",), ("read", "run")):
            allowed = {agent for agent in _AGENTS if any(principal.may(f"agents:{each}", agent) for each in actions)}
            named = principal.agents_for(*actions)
            assert allowed == (set(_AGENTS) if named is None else named & set(_AGENTS)), scopes


def test_the_names_that_scopes_grant_are_those_that_they_allow() -> None:
    names = {*_SCOPES, "ops:", "ops", "system:write", "ops:approve", "ops:*"}
    for scopes in combinations(_SCOPES, 2):
        granted = names_granted(scopes)
        assert {name for name in names | granted if allows(scopes, name)} == granted, scopes
