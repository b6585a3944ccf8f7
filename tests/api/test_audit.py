"""The audit trail: what it says of every deed, what it never says, and who may read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import pytest

from tests.support.caller import CODEGEN, refusal
from tests.support.gates import Gates
from tests.support.server import JWT_KEY, PEOPLE, Server, served
from tests.support.toolbox import JsonObject
from unpause.auth.tokens import NewToken, create_token, replace_token, revoke_token
from unpause.domain.principal import Principal
from unpause.domain.scopes import DEFAULT_SCOPES
from unpause.errors import DatabaseUnavailable
from unpause.store.users import list_organizations

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

ORGANIZATION_AUDIT = "/v1/organizations/1/audit"
WEBHOOK = "/v1/organizations/1/webhooks/agent-run"
CANARY = "canary-4f1d"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        yield server


async def reported(server: Server, run: JsonObject) -> list[tuple[str | None, ...]]:
    """Return what the trail says of the run: what was done, by whom, through what, decided how, in which words."""
    names = ("action", "actor", "via", "decision", "note")
    return [tuple(entry[name] for name in names) for entry in await server.audit(run_id=run["run_id"])]


async def by_codegen(server: Server, who: str = "root", **query: object) -> httpx.Response:
    """Ask for the trail through Codegen's API."""
    requested = {name: str(value) for name, value in query.items()}
    return await server.user(who).get(ORGANIZATION_AUDIT, **requested)


async def test_every_decision_is_told_with_who_made_it_how_and_in_which_words(server: Server) -> None:
    run = await server.user("alice").run_tools("delete_file", "move")
    (note, move) = (item for item in (await server.read(run))["requirements"])
    answered = await server.user("bob").answer(run, confirmation_note="Fine.")
    assert answered.status_code == 200
    assert (await server.user("carol").resume(run, "Rather not.")).status_code == 200
    await server.settled(run)

    assert sorted(await reported(server, run), key=str) == [
        ("requirement.answered", "bob", "agno", "confirmed", "Fine."),
        ("requirement.answered", "carol", "codegen", "rejected", "Rather not."),
        ("requirement.voted", "bob", "agno", "confirmed", "Fine."),
    ]
    entries = await server.audit(run_id=run["run_id"])
    assert {entry["subject"] for entry in entries} == {note["id"], move["id"]}
    for entry in entries:
        assert entry["run_id"] == run["run_id"]
        # The id of a token is its part before the dot, and no secret.
        assert entry["token_id"] == server.tokens[entry["actor"]].removeprefix("unp_").split(".")[0]
        shown = note if entry["subject"] == note["id"] else move
        assert entry["details"] == {
            "tool_name": shown["tool_execution"]["tool_name"],
            "tool_call_id": shown["tool_execution"]["tool_call_id"],
        }
        # Of a database that has a clock of its own, by that.
        assert timedelta() <= datetime.fromisoformat(entry["at"]) - server.clock.now() < timedelta(minutes=10)


async def test_who_comes_with_a_jwt_and_who_acts_for_others_are_told_by_name(server: Server) -> None:
    first, second, third = [await server.user("alice").run_tools("delete_file") for _ in range(3)]
    claims = {"sub": "dave", "exp": 4_000_000_000, "scopes": list(DEFAULT_SCOPES)}
    dave = server.user(jwt.encode(claims, JWT_KEY, "HS256"))
    assert (await dave.answer(first)).status_code == 200
    assert (await server.user("service").answer(second, form={"user_id": "alice"})).status_code == 200
    assert (await server.user("service").answer(third)).status_code == 200
    service = server.tokens["service"].removeprefix("unp_").split(".")[0]
    found = [(await server.audit(run_id=run["run_id"]))[0] for run in (first, second, third)]
    assert [(entry["actor"], entry["token_id"]) for entry in found] == [
        ("dave", None),
        ("alice", service),
        (f"token:{service}", service),
    ]


async def test_approvals_cancels_and_deleted_sessions_are_told(server: Server) -> None:
    sold, gone, ended, banned = [
        await server.user("alice").run_tools(tool) for tool in ("sell", "close", "delete_file", "delete_file")
    ]
    approvals = [await server.approval_of(run) for run in (sold, gone)]
    assert (
        await server.user("bob").resolve(sold, "rejected", resolution_data={"reason": "Too soon."})
    ).status_code == 200
    await server.user("bob").delete(f"/approvals/{approvals[1]['id']}")
    for _ in range(2):
        # The second changes nothing, and is not told.
        await server.user("alice").post(f"/agents/toolbox/runs/{ended['run_id']}/cancel")
        await server.user("carol").post(f"{CODEGEN}/ban", {"agent_run_id": await server.key_of(banned)})
        deleted = await server.user("alice").delete(f"/sessions/{ended['session_id']}")
        assert deleted.status_code == 204

    assert await reported(server, sold) == [("approval.resolved", "bob", "agno", "rejected", "Too soon.")]
    ((action, actor, _, decision, note),) = await reported(server, gone)
    assert (action, actor, decision) == ("approval.deleted", "bob", "rejected")
    assert "deleted by an administrator" in str(note)
    assert [(await server.audit(run_id=run["run_id"]))[0]["subject"] for run in (sold, gone)] == [
        approval["id"] for approval in approvals
    ]
    # The session is gone with its run; what was done stays.
    assert (await server.user("root").get(f"/agents/toolbox/runs/{ended['run_id']}")).is_error
    assert await reported(server, ended) == [
        (done, "alice", "agno", None, None) for done in ("run.cancelled", "run.deleted")
    ]
    assert await reported(server, banned) == [("run.cancelled", "carol", "codegen", None, None)]
    (deletion,) = [entry for entry in await server.audit() if entry["action"] == "session.deleted"]
    assert (deletion["actor"], deletion["subject"]) == ("alice", ended["session_id"])


async def test_who_pauses_and_prompts_somebody_elses_run_is_told(tmp_path: Path) -> None:
    gates = Gates("hold_amount")
    async with served(tmp_path, tokens=True, user_isolation=False, gates=gates) as server:
        run = await server.user("alice").run_tools("hold_amount")
        await server.user("bob").answer(run)
        executing = asyncio.create_task(server.user("carol").answer(run))
        await gates.reached("hold_amount")
        for _ in range(2):
            # The second changes nothing, and is not told.
            requested = await server.user("bob").post(f"/agents/toolbox/runs/{run['run_id']}/pause")
            assert requested.status_code == 200
        gates.open("hold_amount")
        assert (await executing).json()["status"] == "PAUSED"
        assert (await server.user("carol").resume(run, CANARY)).status_code == 200
        await server.settled(run)
        entries = await server.audit(run_id=run["run_id"])
    assert [(entry["action"], entry["actor"], entry["via"]) for entry in entries[-2:]] == [
        ("run.pause_requested", "bob", "agno"),
        ("run.continued", "carol", "codegen"),
    ]
    assert entries[-1]["details"] == {"prompt_characters": len(CANARY), "images": 0}
    assert CANARY not in json.dumps(entries)
    assert len(entries) == 4


async def test_words_beside_a_decision_and_a_run_that_is_only_sent_on_are_told(server: Server) -> None:
    run, sold = (
        await server.user("alice").run_tools("delete_file"),
        await server.user("alice").run_tools("sell"),
    )
    (item,) = (await server.read(run))["requirements"]
    tools = [{**item["tool_execution"], "confirmed": True}]
    assert (await server.user("bob").resume(run, "And then more.", tools=tools)).status_code == 200
    assert (await server.user("bob").resolve(sold)).status_code == 200
    assert (await server.user("carol").post_continue(sold, [])).status_code == 200
    assert {name[:2] for name in await reported(server, run)} == {
        ("requirement.answered", "bob"),
        ("run.continued", "bob"),
    }
    assert [name[:2] for name in await reported(server, sold)] == [
        ("approval.resolved", "bob"),
        ("run.continued", "carol"),
    ]


async def test_sessions_that_are_changed_and_each_run_of_a_deleted_one_are_told(server: Server) -> None:
    runs = [await server.user("alice").run_tools("delete_file", session_id="s") for _ in range(2)]
    patched = await server.user("bob").patch("/sessions/s", {"session_name": CANARY, "session_state": {"role": CANARY}})
    assert patched.status_code == 200, patched.text
    assert (await server.user("carol").delete("/sessions/s")).status_code == 204
    entries = [entry for entry in await server.audit() if entry["action"] != "token.created"]
    changed, *gone, deleted = [(entry["action"], entry["actor"], entry["subject"]) for entry in entries]
    assert (changed, deleted) == (("session.changed", "bob", "s"), ("session.deleted", "carol", "s"))
    assert sorted(gone) == sorted(("run.deleted", "carol", run["run_id"]) for run in runs)
    assert entries[0]["details"] == {"fields": ["session_name", "session_state"]}
    assert [entry["details"] for entry in await server.audit(run_id=runs[0]["run_id"])] == [{"session_id": "s"}]
    assert CANARY not in json.dumps(entries)


async def test_time_is_told_as_such(server: Server) -> None:
    moved, closed, dropped = [await server.user("alice").run_tools(tool) for tool in ("move", "close", "drop")]
    server.clock.move(61)
    await server.application.expiry.sweep()
    late = "Nobody answered in time"
    assert await reported(server, moved) == [("requirement.answered", None, "expiry", "rejected", late)]
    assert await reported(server, dropped) == [("run.cancelled", None, "expiry", None, late)]
    ((action, actor, via, decision, _),) = await reported(server, closed)
    assert (action, actor, via, decision) == ("requirement.answered", None, "expiry", "rejected")


async def test_changes_of_webhooks_are_told_without_what_is_secret_in_them(server: Server) -> None:
    address = f"https://user:{CANARY}@hooks.example.org/{CANARY}?token={CANARY}"
    plain = f"https://hooks.example.org/{CANARY}?token={CANARY}"
    refused = await server.user("root").post(WEBHOOK, {"url": "ftp://x"})
    assert refused.status_code == 400
    for url in (address, plain):
        await server.user("root").post(WEBHOOK, {"url": url})
    await server.user("root").delete(WEBHOOK)
    # There is nothing left to delete, and nothing to tell.
    await server.user("root").delete(WEBHOOK)
    run = await server.user("alice").run_tools("delete_file")
    resumed = await server.user("bob").resume(run, "No.", webhooks=[{"url": plain}])
    assert resumed.status_code == 200, resumed.text

    # Made with webhooks of its own, or with none: then the organization's own hears nothing of it.
    made: list[JsonObject] = []
    for targets in ([{"url": plain}], []):
        body = {"prompt": "hello", "webhooks": targets}
        created = await server.user("carol").post(CODEGEN, body)
        assert created.status_code == 200, created.text
        made.append(created.json())

    changes = [entry for entry in await server.audit() if entry["action"] == "webhook.changed"]
    assert [entry["details"] for entry in changes][-5:] == [
        {"server": "hooks.example.org"},
        {"server": None},
        {"servers": ["hooks.example.org"]},
        {"servers": ["hooks.example.org"]},
        {"servers": []},
    ]
    assert (changes[-3]["actor"], changes[-3]["run_id"]) == ("bob", run["run_id"])
    assert [entry["actor"] for entry in changes[-2:]] == ["carol", "carol"]
    assert [one["web_url"].endswith(entry["run_id"]) for one, entry in zip(made, changes[-2:], strict=True)] == [
        True
    ] * 2
    assert CANARY not in json.dumps(changes)


async def test_tokens_that_are_made_and_revoked_are_told_where_they_belong(server: Server) -> None:
    operator, now = Principal(1, "operator", via="cli"), server.clock.now()

    def unit(connection: Connection) -> tuple[str, str]:
        rivals = max(one.id for one in list_organizations(connection))
        token, _ = create_token(connection, NewToken(organization_id=rivals, user_id="eve"), operator, now)
        newer, _ = replace_token(connection, token.id, operator, now, timedelta(hours=1))
        for _ in range(2):
            revoke_token(connection, newer.id, operator, now)
        return token.id, newer.id

    old, new = await server.application.database.write(unit)
    mine = [entry for entry in await server.user("rival").audit() if entry["subject"] in {old, new}]
    assert [(entry["action"], entry["subject"], entry["actor"], entry["via"]) for entry in mine] == [
        ("token.created", old, "operator", "cli"),
        ("token.created", new, "operator", "cli"),
        ("token.revoked", old, "operator", "cli"),
        ("token.revoked", new, "operator", "cli"),
    ]
    assert not {entry["subject"] for entry in await server.audit()} & {old, new}
    # Each person's token, with what it may do, and nothing of the token itself.
    made = [entry for entry in await server.audit() if entry["action"] == "token.created"]
    assert [entry["details"]["scopes"] for entry in made] == [list(PEOPLE[who]) for who in PEOPLE if who != "rival"]
    kept = json.dumps(await server.dump(), default=str)
    for token in server.tokens.values():
        assert token not in kept
        assert token.split(".")[1] not in kept


async def test_of_what_was_filled_in_changed_or_brought_only_names_are_told(server: Server) -> None:
    runs = {tool: await server.user("alice").run_tools(tool) for tool in ("edit", "fill", "wire", "promote")}
    number = 987_654_321
    form = [{"name": "amount", "value": 5}, {"name": "code", "value": CANARY}]
    assert (await server.user("bob").answer(runs["edit"], tool_args={"amount": number})).status_code == 200
    assert (await server.user("bob").answer(runs["fill"], user_input_schema=form)).status_code == 200
    assert (await server.user("bob").answer(runs["wire"], confirmed=None, result=CANARY)).status_code == 200
    resolved = await server.user("bob").resolve(runs["promote"], resolution_data={"values": {"role": CANARY}})
    assert resolved.status_code == 200
    for tool in ("edit", "fill", "wire"):
        await server.settled(runs[tool])
    assert server.executed == [f"edit({number})", f"fill(5, {CANARY})"]

    fields = {
        tool: (await server.audit(run_id=run["run_id"]))[0]["details"].get("fields") for tool, run in runs.items()
    }
    assert fields == {"edit": ["amount"], "fill": ["code"], "wire": None, "promote": ["role"]}
    rows = json.dumps((await server.dump())["audit"], default=str)
    shown = json.dumps(await server.audit()) + (await by_codegen(server)).text
    for secret in (CANARY, str(number)):
        assert secret not in rows
        assert secret not in shown


def failing(error: Exception) -> Callable[..., Any]:
    """Return a function that only raises."""

    def fail(*arguments: object, **named: object) -> None:
        del arguments, named
        raise error

    return fail


@pytest.mark.parametrize("part", ["continue_run.transition", "decisions.add_entries"])
async def test_a_decision_and_its_entry_are_kept_together_or_not_at_all(
    server: Server, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    run = await server.user("alice").run_tools("delete_file")
    monkeypatch.setattr(f"unpause.services.{part}", failing(DatabaseUnavailable()))
    async with server.nothing_changes():
        refusal(await server.user("bob").answer(run), 503)
    monkeypatch.undo()
    assert (await server.user("bob").answer(run)).status_code == 200
    assert len(await server.audit(run_id=run["run_id"])) == 1


async def test_both_routes_have_pages_and_can_show_one_run(server: Server) -> None:
    runs = [await server.user("alice").run_tools("delete_file") for _ in range(3)]
    for run in runs:
        assert (await server.user("bob").answer(run)).status_code == 200
    everything = (await server.audit())[::-1]
    total = len(everything)
    assert [entry["run_id"] for entry in everything[:3]] == [run["run_id"] for run in reversed(runs)]

    paged: list[JsonObject] = []
    for page in range(1, -(-total // 2) + 1):
        response = await server.user("root").get("/audit", limit=2, page=page)
        paged += response.json()["data"]
        assert response.json()["meta"]["total_count"] == total
    assert paged == everything
    part = (await by_codegen(server, skip=2, limit=3)).json()
    assert (part["items"], part["total"]) == (everything[2:5], total)

    one = (await by_codegen(server, run_id=runs[0]["run_id"])).json()
    assert [entry["run_id"] for entry in one["items"]] == [runs[0]["run_id"]]
    assert one["items"] == await server.audit(run_id=runs[0]["run_id"])
    assert (await by_codegen(server, run_id="no run")).json()["items"] == await server.audit(run_id="no run") == []
    for run_id in ("x" * 37, "\0"):
        for response in (
            await by_codegen(server, run_id=run_id),
            await server.user("root").get("/audit", run_id=run_id),
        ):
            assert 200 <= response.status_code < 500, response.text
            assert response.is_client_error or not response.json().get("items", response.json().get("data"))


async def test_both_routes_filter_by_actor_action_and_time(server: Server) -> None:
    for who in ("bob", "carol"):
        run = await server.user("alice").run_tools("delete_file")
        assert (await server.user(who).answer(run)).status_code == 200
    answered = [entry for entry in await server.audit() if entry["action"] == "requirement.answered"]
    # The clock stands still: all at one moment.
    at = answered[-1]["at"]
    for query, expected in (
        ({"actor": "bob", "action": "requirement.answered"}, answered[:1]),
        ({"actor": "bo"}, []),
        ({"action": "requirement.answered", "since": at}, answered),
        ({"action": "requirement.answered", "until": at}, []),
    ):
        assert await server.audit(**query) == expected
        found = (await by_codegen(server, **query)).json()
        assert (found["items"], found["total"]) == (expected[::-1], len(expected))
    for query in ({"since": "yesterday"}, {"until": "2026-01-01T00:00:00"}, {"action": "deed"}, {"actor": "x" * 256}):
        assert (await server.user("root").get("/audit", **query)).status_code == 422
        assert (await by_codegen(server, **query)).status_code == 422
    assert (await server.user("root").get("/audit", actor="\0")).status_code == 400


async def test_only_administrators_read_it_and_only_that_of_their_organization(server: Server) -> None:
    run = await server.user("alice").run_tools("delete_file")
    assert (await server.user("bob").answer(run)).status_code == 200
    for who in ("alice", "carol", "service"):
        refused = await server.user(who).get("/audit")
        assert "agent_os:admin" in refusal(refused, 403)
        assert "agent_os:admin" in refusal(await by_codegen(server, who), 403)
    assert (await server.client.get("/audit")).status_code == 401
    assert (await server.client.get(ORGANIZATION_AUDIT)).status_code == 401
    # The other organization's administrator sees nothing of it, whatever they ask for.
    assert await server.user("rival").audit(run_id=run["run_id"]) == []
    assert {entry["action"] for entry in await server.user("rival").audit()} <= {"token.created"}
    assert (await by_codegen(server, "rival")).status_code == 403
    assert (await by_codegen(server, "rival", run_id=run["run_id"])).status_code == 403
