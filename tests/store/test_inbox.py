"""The inbox's queries find by columns what the rules of who decides say of each request, on both databases."""

from __future__ import annotations

import itertools
from dataclasses import asdict

from sqlalchemy import Connection, insert

from tests.support.databases import NOW, new_run
from unpause.domain.deciders import Deciders
from unpause.domain.inbox import InboxFilter, Whose
from unpause.domain.principal import Principal
from unpause.domain.runs import RunStatus
from unpause.domain.scopes import ADMIN
from unpause.services.inbox import has_confirmed, viewer_of, why_not
from unpause.store.engine.database import Database
from unpause.store.inbox import list_open
from unpause.store.tables import requirements

_APPROVERS = (
    *("ada", "user:ada", "scope:ada", "ADA", "User:ada", 'x,"ada"', '["ada"', "ada]", "añá", "user:añá"),
    *("ops:approve", "scope:ops:approve", "user:ops:approve", "ops:*:approve", "system:read", "config:read"),
    *("scope:lone", "lone", "agents:run", "OPS:approve", "user:user:ada", "approvers", "true"),
)
_RULES = (
    None,
    Deciders(),
    *(Deciders(approvers=(each,)) for each in _APPROVERS),
    Deciders(approvers=("bob", "scope:ops:approve")),
    Deciders(four_eyes=True),
    Deciders(quorum=2),
    Deciders(four_eyes=True, approvers=("ada",), quorum=3),
)
_CALLERS = (
    *(Principal(1, subject=name) for name in ("ada", "bob", "añá", "x", "ops:approve", "approvers", "user:ada")),
    Principal(1),
    *(
        Principal(1, subject=name, scopes=frozenset({"agents:run", *scopes}), is_isolated=isolated)
        for name, scopes, isolated in itertools.product(
            ("ada", None),
            ((), ("ops:approve",), ("ops:*:approve", "config:read"), ("lone", "agents:other:read"), (ADMIN,)),
            (True, False),
        )
    ),
)


async def test_a_query_finds_just_those_requests_that_the_rules_give_to_the_caller(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        rows = [
            (rules, user, votes)
            for rules, user, votes in itertools.product(_RULES, ("ada", "bob", None), ((), ("ada",)))
            if not votes or (rules is not None and rules.quorum > 1)
        ]
        for number, (rules, user, votes) in enumerate(rows):
            run = new_run(connection, RunStatus.PAUSED, user_id=user)
            given = [{"by": voter, "at": NOW.isoformat(), "via": "unpause"} for voter in votes]
            connection.execute(insert(requirements).values(_requirement(number, run.id, rules, given)))
        everything = list_open(connection, viewer_of(Principal(1)), InboxFilter(whose=Whose.ALL), NOW, None, 1000)
        assert len(everything) == len(rows)
        for caller in _CALLERS:
            found = list_open(connection, viewer_of(caller), InboxFilter(whose=Whose.MINE), NOW, None, 1000)
            expected = [
                each.requirement.id
                for each in everything
                if why_not(caller, each, NOW, set) is None and not has_confirmed(caller, each)
            ]
            assert [each.requirement.id for each in found] == expected, caller

    async with Database(database_url).opened() as database:
        await database.write(unit)


def _requirement(number: int, run_key: int, rules: Deciders | None, votes: list[dict[str, str]]) -> dict[str, object]:
    return {
        "id": f"requirement-{number:03}",
        "run_key": run_key,
        "position": 0,
        "pause_id": "pause",
        "tool_call_id": "call",
        "call_id": "call",
        "tool_name": "act",
        "tool_args": {},
        "kind": "confirmation",
        "organization_id": 1,
        "created_at": NOW,
        "updated_at": NOW,
        "deciders": None if rules is None else asdict(rules),
        "votes": votes or None,
    }
