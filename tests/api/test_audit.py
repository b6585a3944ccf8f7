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

from tests.support.bank import CODEGEN, PEOPLE, Bank, JsonObject, at_bank
from tests.support.gates import Gates
from unpause.auth.tokens import NewToken, end_token, make_token, replace_token
from unpause.domain.principal import Principal
from unpause.domain.scopes import USUAL
from unpause.errors import DatabaseUnavailable
from unpause.store.users import list_organizations

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

ORGANIZATION_AUDIT = "/v1/organizations/1/audit"
WEBHOOK = "/v1/organizations/1/webhooks/agent-run"
JWT_KEY = "a secret of the tests, 32 bytes or more"
CANARY = "canary-4f1d"


@pytest.fixture
async def bank(database_url: str, tmp_path: Path) -> AsyncIterator[Bank]:
    """Serve the bank, which knows JWTs, too."""
    async with at_bank(database_url, tmp_path, jwt_key=JWT_KEY, jwt_algorithm="HS256") as served:
        yield served


async def told(bank: Bank, run: JsonObject) -> list[tuple[str | None, ...]]:
    """Return what the trail says of the run: what was done, by whom, through what, decided how, in which words."""
    names = ("action", "actor", "via", "decision", "note")
    return [tuple(entry[name] for name in names) for entry in await bank.audit(run_id=run["run_id"])]


async def by_codegen(bank: Bank, who: str = "root", **query: object) -> httpx.Response:
    """Ask for the trail through Codegen's API."""
    asked = {name: str(value) for name, value in query.items()}
    return await bank.client.get(ORGANIZATION_AUDIT, params=asked, headers=bank.headers(who))


async def test_every_decision_is_told_with_who_made_it_how_and_in_which_words(bank: Bank) -> None:
    run = await bank.create("alice", "note", "move")
    (note, move) = (item for item in (await bank.get(run))["requirements"])
    answered = await bank.answer("bob", run, confirmation_note="Fine.")
    assert answered.status_code == 200
    assert (await bank.resume("carol", run, "Rather not.")).status_code == 200
    await bank.settled(run)

    assert sorted(await told(bank, run), key=str) == [
        ("requirement.answered", "bob", "agno", "confirmed", "Fine."),
        ("requirement.answered", "carol", "codegen", "rejected", "Rather not."),
        ("requirement.voted", "bob", "agno", "confirmed", "Fine."),
    ]
    entries = await bank.audit(run_id=run["run_id"])
    assert {entry["subject"] for entry in entries} == {note["id"], move["id"]}
    for entry in entries:
        assert entry["run_id"] == run["run_id"]
        # The id of a token is its part before the dot, and no secret.
        assert entry["token_id"] == bank.tokens[entry["actor"]].removeprefix("unp_").split(".")[0]
        shown = note if entry["subject"] == note["id"] else move
        assert entry["details"] == {
            "tool_name": shown["tool_execution"]["tool_name"],
            "tool_call_id": shown["tool_execution"]["tool_call_id"],
        }
        # Of a database that has a clock of its own, by that.
        assert timedelta() <= datetime.fromisoformat(entry["at"]) - bank.clock.now() < timedelta(minutes=10)


async def test_who_comes_with_a_jwt_and_who_acts_for_others_are_told_by_name(bank: Bank) -> None:
    first, second, third = [await bank.create("alice", "note") for _ in range(3)]
    claims = {"sub": "dave", "exp": 4_000_000_000, "scopes": list(USUAL)}
    assert (await bank.answer(jwt.encode(claims, JWT_KEY, "HS256"), first)).status_code == 200
    assert (await bank.answer("service", second, form={"user_id": "alice"})).status_code == 200
    assert (await bank.answer("service", third)).status_code == 200
    service = bank.tokens["service"].removeprefix("unp_").split(".")[0]
    found = [(await bank.audit(run_id=run["run_id"]))[0] for run in (first, second, third)]
    assert [(entry["actor"], entry["token_id"]) for entry in found] == [
        ("dave", None),
        ("alice", service),
        (f"token:{service}", service),
    ]


async def test_approvals_cancels_and_deleted_sessions_are_told(bank: Bank) -> None:
    sold, gone, ended, banned = [await bank.create("alice", tool) for tool in ("sell", "close", "note", "note")]
    approvals = [await bank.approval_of(run) for run in (sold, gone)]
    assert (await bank.resolve("bob", sold, "rejected", resolution_data={"reason": "Too soon."})).status_code == 200
    await bank.client.delete(f"/approvals/{approvals[1]['id']}", headers=bank.headers("bob"))
    for _ in range(2):
        # The second changes nothing, and is not told.
        await bank.client.post(f"/agents/bank/runs/{ended['run_id']}/cancel", headers=bank.headers("alice"))
        await bank.client.post(
            f"{CODEGEN}/ban", json={"agent_run_id": await bank.key_of(banned)}, headers=bank.headers("carol")
        )
        deleted = await bank.client.delete(f"/sessions/{ended['session_id']}", headers=bank.headers("alice"))
        assert deleted.status_code == 204

    assert await told(bank, sold) == [("approval.resolved", "bob", "agno", "rejected", "Too soon.")]
    ((action, actor, _, decision, note),) = await told(bank, gone)
    assert (action, actor, decision) == ("approval.deleted", "bob", "rejected")
    assert "deleted by an administrator" in str(note)
    assert [(await bank.audit(run_id=run["run_id"]))[0]["subject"] for run in (sold, gone)] == [
        approval["id"] for approval in approvals
    ]
    # The session is gone with its run; what was done stays.
    assert (await bank.client.get(f"/agents/bank/runs/{ended['run_id']}", headers=bank.headers("root"))).is_error
    assert await told(bank, ended) == [(done, "alice", "agno", None, None) for done in ("run.cancelled", "run.deleted")]
    assert await told(bank, banned) == [("run.cancelled", "carol", "codegen", None, None)]
    (deletion,) = [entry for entry in await bank.audit() if entry["action"] == "session.deleted"]
    assert (deletion["actor"], deletion["subject"]) == ("alice", ended["session_id"])


async def test_who_pauses_and_prompts_somebody_elses_run_is_told(database_url: str, tmp_path: Path) -> None:
    gates = Gates("hold")
    async with at_bank(database_url, tmp_path, gates=gates) as bank:
        run = await bank.create("alice", "hold")
        await bank.answer("bob", run)
        executing = asyncio.create_task(bank.answer("carol", run))
        await gates.reached("hold")
        for _ in range(2):
            # The second changes nothing, and is not told.
            asked = await bank.client.post(f"/agents/bank/runs/{run['run_id']}/pause", headers=bank.headers("bob"))
            assert asked.status_code == 200
        gates.open("hold")
        assert (await executing).json()["status"] == "PAUSED"
        assert (await bank.resume("carol", run, CANARY)).status_code == 200
        await bank.settled(run)
        entries = await bank.audit(run_id=run["run_id"])
    assert [(entry["action"], entry["actor"], entry["via"]) for entry in entries[-2:]] == [
        ("run.pause_requested", "bob", "agno"),
        ("run.continued", "carol", "codegen"),
    ]
    assert entries[-1]["details"] == {"prompt_characters": len(CANARY), "images": 0}
    assert CANARY not in json.dumps(entries)
    assert len(entries) == 4


async def test_words_beside_a_decision_and_a_run_that_is_only_sent_on_are_told(bank: Bank) -> None:
    run, sold = await bank.create("alice", "note"), await bank.create("alice", "sell")
    (item,) = (await bank.get(run))["requirements"]
    tools = [{**item["tool_execution"], "confirmed": True}]
    assert (await bank.resume("bob", run, "And then more.", tools=tools)).status_code == 200
    assert (await bank.resolve("bob", sold)).status_code == 200
    assert (await bank.continue_with("carol", sold, [])).status_code == 200
    assert {name[:2] for name in await told(bank, run)} == {("requirement.answered", "bob"), ("run.continued", "bob")}
    assert [name[:2] for name in await told(bank, sold)] == [("approval.resolved", "bob"), ("run.continued", "carol")]


async def test_sessions_that_are_changed_and_each_run_of_a_deleted_one_are_told(bank: Bank) -> None:
    runs = [await bank.create("alice", "note", session_id="s") for _ in range(2)]
    patched = await bank.client.patch(
        "/sessions/s", json={"session_name": CANARY, "session_state": {"role": CANARY}}, headers=bank.headers("bob")
    )
    assert patched.status_code == 200, patched.text
    assert (await bank.client.delete("/sessions/s", headers=bank.headers("carol"))).status_code == 204
    entries = [entry for entry in await bank.audit() if entry["action"] != "token.created"]
    changed, *gone, deleted = [(entry["action"], entry["actor"], entry["subject"]) for entry in entries]
    assert (changed, deleted) == (("session.changed", "bob", "s"), ("session.deleted", "carol", "s"))
    assert sorted(gone) == sorted(("run.deleted", "carol", run["run_id"]) for run in runs)
    assert entries[0]["details"] == {"fields": ["session_name", "session_state"]}
    assert [entry["details"] for entry in await bank.audit(run_id=runs[0]["run_id"])] == [{"session_id": "s"}]
    assert CANARY not in json.dumps(entries)


async def test_time_is_told_as_such(bank: Bank) -> None:
    moved, closed, dropped = [await bank.create("alice", tool) for tool in ("move", "close", "drop")]
    bank.clock.move(61)
    await bank.application.expiry.sweep()
    late = "Nobody answered in time"
    assert await told(bank, moved) == [("requirement.answered", None, "expiry", "rejected", late)]
    assert await told(bank, dropped) == [("run.cancelled", None, "expiry", None, late)]
    ((action, actor, via, decision, _),) = await told(bank, closed)
    assert (action, actor, via, decision) == ("requirement.answered", None, "expiry", "rejected")


async def test_changes_of_webhooks_are_told_without_what_is_secret_in_them(bank: Bank) -> None:
    address = f"https://user:{CANARY}@hooks.example.org/{CANARY}?token={CANARY}"
    plain = f"https://hooks.example.org/{CANARY}?token={CANARY}"
    refused = await bank.client.post(WEBHOOK, json={"url": "ftp://x"}, headers=bank.headers("root"))
    assert refused.status_code == 400
    for url in (address, plain):
        await bank.client.post(WEBHOOK, json={"url": url}, headers=bank.headers("root"))
    await bank.client.delete(WEBHOOK, headers=bank.headers("root"))
    run = await bank.create("alice", "note")
    resumed = await bank.resume("bob", run, "No.", webhooks=[{"url": plain}])
    assert resumed.status_code == 200, resumed.text

    # Made with webhooks of its own, or with none: then the organization's own hears nothing of it.
    made: list[JsonObject] = []
    for targets in ([{"url": plain}], []):
        body = {"prompt": "hello", "webhooks": targets}
        created = await bank.client.post(CODEGEN, json=body, headers=bank.headers("carol"))
        assert created.status_code == 200, created.text
        made.append(created.json())

    changes = [entry for entry in await bank.audit() if entry["action"] == "webhook.changed"]
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


async def test_tokens_that_are_made_and_revoked_are_told_where_they_belong(bank: Bank) -> None:
    operator, now = Principal(1, "operator", via="cli"), bank.clock.now()

    def unit(connection: Connection) -> tuple[str, str]:
        rivals = max(one.id for one in list_organizations(connection))
        token, _ = make_token(connection, NewToken(organization_id=rivals, user_id="eve"), operator, now)
        newer, _ = replace_token(connection, token.id, operator, now, timedelta(hours=1))
        for _ in range(2):
            end_token(connection, newer.id, operator, now)
        return token.id, newer.id

    old, new = await bank.application.database.write(unit)
    mine = [entry for entry in await bank.audit("rival") if entry["subject"] in {old, new}]
    assert [(entry["action"], entry["subject"], entry["actor"], entry["via"]) for entry in mine] == [
        ("token.created", old, "operator", "cli"),
        ("token.created", new, "operator", "cli"),
        ("token.revoked", old, "operator", "cli"),
        ("token.revoked", new, "operator", "cli"),
    ]
    assert not {entry["subject"] for entry in await bank.audit()} & {old, new}
    # Each person's token, with what it may do, and nothing of the token itself.
    made = [entry for entry in await bank.audit() if entry["action"] == "token.created"]
    assert [entry["details"]["scopes"] for entry in made] == [list(PEOPLE[who]) for who in PEOPLE if who != "rival"]
    kept = json.dumps(await bank.dump(), default=str)
    for token in bank.tokens.values():
        assert token not in kept
        assert token.split(".")[1] not in kept


async def test_of_what_was_filled_in_changed_or_brought_only_names_are_told(bank: Bank) -> None:
    runs = {tool: await bank.create("alice", tool) for tool in ("edit", "fill", "wire", "grant")}
    number = 987_654_321
    form = [{"name": "amount", "value": 5}, {"name": "code", "value": CANARY}]
    assert (await bank.answer("bob", runs["edit"], tool_args={"amount": number})).status_code == 200
    assert (await bank.answer("bob", runs["fill"], user_input_schema=form)).status_code == 200
    assert (await bank.answer("bob", runs["wire"], confirmed=None, result=CANARY)).status_code == 200
    resolved = await bank.resolve("bob", runs["grant"], resolution_data={"values": {"role": CANARY}})
    assert resolved.status_code == 200
    for tool in ("edit", "fill", "wire"):
        await bank.settled(runs[tool])
    assert bank.executed == [f"edit({number})", f"fill(5, {CANARY})"]

    fields = {tool: (await bank.audit(run_id=run["run_id"]))[0]["details"].get("fields") for tool, run in runs.items()}
    assert fields == {"edit": ["amount"], "fill": ["code"], "wire": None, "grant": ["role"]}
    rows = json.dumps((await bank.dump())["audit"], default=str)
    shown = json.dumps(await bank.audit()) + (await by_codegen(bank)).text
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
    bank: Bank, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    run = await bank.create("alice", "note")
    monkeypatch.setattr(f"unpause.services.{part}", failing(DatabaseUnavailable()))
    async with bank.nothing_changes():
        bank.refusal(await bank.answer("bob", run), 503)
    monkeypatch.undo()
    assert (await bank.answer("bob", run)).status_code == 200
    assert len(await bank.audit(run_id=run["run_id"])) == 1


async def test_both_routes_have_pages_and_can_show_one_run(bank: Bank) -> None:
    runs = [await bank.create("alice", "note") for _ in range(3)]
    for run in runs:
        assert (await bank.answer("bob", run)).status_code == 200
    everything = (await bank.audit())[::-1]
    total = len(everything)
    assert [entry["run_id"] for entry in everything[:3]] == [run["run_id"] for run in reversed(runs)]

    paged: list[JsonObject] = []
    for page in range(1, -(-total // 2) + 1):
        response = await bank.client.get("/audit", params={"limit": 2, "page": page}, headers=bank.headers("root"))
        paged += response.json()["data"]
        assert response.json()["meta"]["total_count"] == total
    assert paged == everything
    part = (await by_codegen(bank, skip=2, limit=3)).json()
    assert (part["items"], part["total"]) == (everything[2:5], total)

    one = (await by_codegen(bank, run_id=runs[0]["run_id"])).json()
    assert [entry["run_id"] for entry in one["items"]] == [runs[0]["run_id"]]
    assert one["items"] == await bank.audit(run_id=runs[0]["run_id"])
    assert (await by_codegen(bank, run_id="no run")).json()["items"] == await bank.audit(run_id="no run") == []
    for run_id in ("x" * 37, "\0"):
        for response in (
            await by_codegen(bank, run_id=run_id),
            await bank.client.get("/audit", params={"run_id": run_id}, headers=bank.headers("root")),
        ):
            assert 200 <= response.status_code < 500, response.text
            assert response.is_client_error or not response.json().get("items", response.json().get("data"))


async def test_only_administrators_read_it_and_only_that_of_their_organization(bank: Bank) -> None:
    run = await bank.create("alice", "note")
    assert (await bank.answer("bob", run)).status_code == 200
    for who in ("alice", "carol", "service"):
        refused = await bank.client.get("/audit", headers=bank.headers(who))
        assert "agent_os:admin" in bank.refusal(refused, 403)
        assert "agent_os:admin" in bank.refusal(await by_codegen(bank, who), 403)
    assert (await bank.client.get("/audit")).status_code == 401
    assert (await bank.client.get(ORGANIZATION_AUDIT)).status_code == 401
    # The other organization's administrator sees nothing of it, whatever they ask for.
    assert await bank.audit("rival", run_id=run["run_id"]) == []
    assert {entry["action"] for entry in await bank.audit("rival")} <= {"token.created"}
    assert (await by_codegen(bank, "rival")).status_code == 403
    assert (await by_codegen(bank, "rival", run_id=run["run_id"])).status_code == 403
