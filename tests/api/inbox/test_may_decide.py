"""What an inbox says about who may decide is what a decision then does, for every kind of rule and caller."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.api.inbox.deciding import decide
from tests.support.caller import Caller, body_of
from tests.support.full import IS_FULL
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, calls
from unpause.domain.scopes import DEFAULT_SCOPES

# Plain; approvers; four eyes; an administrator; quorum; and what goes together.
TOOLS = ("delete_file", "edit", "lend", "transfer", "deploy", "sell", "move", "close", "hold_amount")

Callers = Mapping[str, tuple[Caller, dict[str, str]]]


async def callers_of(server: Server) -> Callers:
    """Return everybody who comes, with whom a program acts for."""
    default = tuple(DEFAULT_SCOPES)
    found: dict[str, tuple[Caller, dict[str, str]]] = {
        name: (server.user(name), {}) for name in ("alice", "bob", "root")
    }
    found["carol"] = (server.user("carol"), {})
    found["nobody"] = (server.user("service"), {})
    found["for bob"] = (server.user("service"), {"acting_for": "bob"})
    found["plain"] = (await server.add_user(1, "dora", *default), {})
    found["reader"] = (await server.add_user(1, "bob", "agents:read"), {})
    found["finance"] = (await server.add_user(1, "dora", "finance:approve"), {})
    found["approver"] = (await server.add_user(1, "dora", "approvals:write"), {})
    found["other agent"] = (await server.add_user(1, "bob", "agents:other:run"), {})
    found["this agent"] = (await server.add_user(1, "bob", "agents:toolbox:run"), {})
    found["nothing"] = (await server.add_user(1, "bob", "sessions:read"), {})
    found["jwt"] = (server.by_jwt("alice", *default), {})
    found["nameless jwt"] = (server.by_jwt(None, *default, "approvals:write"), {})
    found["other session"] = (server.by_jwt("bob", *default, session_id="another"), {})
    return found


async def listed(caller: Caller, requirement_id: str, **query: object) -> JsonObject | None:
    """Return the request in the caller's inbox, or None."""
    response = await caller.get("/inbox", limit=200, **query)
    # A JWT without a user, where users are isolated.
    items = [] if response.status_code == 403 else body_of(response)["data"]
    return next((item for item in items if item["requirement_id"] == requirement_id), None)


async def check(item: JsonObject, caller: Caller, acting: dict[str, str]) -> bool:
    """Compare what the inbox says with what a decision does; return whether it was taken."""
    shown = await listed(caller, item["requirement_id"], who="all", **acting)
    may = shown is not None and shown["may_decide"]
    assert shown is None or (shown["why_not"] is None) is may
    assert (await listed(caller, item["requirement_id"], **acting) == shown) is (may or shown is None)
    answer = await decide(caller, item, continues=False, **acting)
    if may:
        assert answer.status_code == 200, answer.text
        return True
    assert answer.status_code in ({404, 403} if shown is None else {403}), answer.text
    return False


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("isolated", [True, pytest.param(False, marks=pytest.mark.full)])
async def test_a_request_may_be_decided_exactly_by_those_to_whom_the_inbox_says_so(
    tmp_path: Path, tool: str, *, isolated: bool
) -> None:
    async with served(tmp_path, tokens=True, user_isolation=isolated) as server:
        callers = await callers_of(server)
        taken: dict[str, set[str]] = {}
        for starter in ("alice", "service") if IS_FULL else ("alice",):
            run: JsonObject = {}
            for name, (caller, acting) in callers.items():
                # A program that names nobody starts runs of no user.
                run = run or await server.user(starter).create(calls(tool))
                item = {"requirement_id": run["requirements"][0]["id"]}
                if await check(item, caller, acting):
                    taken.setdefault(starter, set()).add(name)
                    run = {}
    # Somebody may decide whatever a user has started, and not everybody.
    assert 0 < len(taken["alice"]) < len(callers)


@pytest.mark.parametrize("tool", ["delete_file", "transfer", "move"])
async def test_without_authentication_it_is_the_same(tmp_path: Path, tool: str) -> None:
    async with served(tmp_path) as server:
        taken = []
        for started_by in ({}, {"user_id": "alice"}):
            run: JsonObject = {}
            for acting in ({}, {"acting_for": "alice"}, {"acting_for": "bob"}):
                run = run or await server.create(calls(tool), **started_by)
                item = {"requirement_id": run["requirements"][0]["id"]}
                if await check(item, server, acting):
                    taken.append((started_by, acting))
                    run = {}
    assert taken
