"""Whoever approves a call has seen, and fixed, all of what runs: nothing is changed or filled in behind their back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.bank import Bank, JsonObject, at_bank


@pytest.fixture
async def bank(database_url: str, tmp_path: Path) -> AsyncIterator[Bank]:
    """Serve the bank."""
    async with at_bank(database_url, tmp_path) as served:
        yield served


def filled(role: str, **more: object) -> list[JsonObject]:
    """Return the form of ``appoint``, filled in."""
    return [{"name": name, "value": value} for name, value in {"role": role, **more}.items()]


def tool_of(run: JsonObject) -> JsonObject:
    (tool,) = run["tools"]
    return dict(tool)


async def test_what_is_filled_in_after_the_approval_is_approved_as_it_is_then(bank: Bank) -> None:
    run = await bank.create("alice", "appoint")
    assert [field["name"] for field in tool_of(run)["editable"]] == ["amount"]
    resolved = await bank.resolve("bob", run, resolution_data={"note": "fine"})
    assert (resolved.status_code, resolved.json()["status"]) == (200, "approved")
    assert "editable" not in tool_of(await bank.get(run))
    async with bank.nothing_changes():
        # Nothing is editable any more, on no way in.
        for refused in (
            await bank.answer("alice", run, tool_args={"amount": 99_999}, user_input_schema=filled("owner")),
            await bank.answer("alice", run, user_input_schema=filled("owner", amount=99_999)),
            await bank.resume(
                "alice",
                run,
                tools=[
                    {**tool_of(run), "tool_args": {"amount": 99_999}, "user_input_schema": filled("owner")},
                ],
            ),
        ):
            assert "amount" in bank.refusal(refused, 400)

    again = await bank.answer("alice", run, user_input_schema=filled("owner"))
    assert (again.status_code, again.json()["status"]) == (200, "PAUSED"), again.text
    (requirement,) = [item for item in again.json()["requirements"] if "confirmation" not in item][-1:]
    assert "filled in after" in requirement["message"]
    tool = requirement["tool_execution"]
    assert (tool["tool_args"], tool["requires_confirmation"]) == ({"amount": 5, "role": "owner"}, True)
    assert not {"editable", "user_input_schema"} & requirement.keys()
    pending = (await bank.client.get("/approvals", params={"status": "pending"}, headers=bank.headers("root"))).json()[
        "data"
    ]
    assert [(item["tool_name"], item["tool_args"]) for item in pending] == [("appoint", {"amount": 5, "role": "owner"})]
    assert bank.executed == []
    async with bank.nothing_changes():
        bank.refusal(await bank.continue_with("alice", run, [{**tool, "confirmed": True}]), 403)
        bank.refusal(await bank.resume("alice", run, "go on"), 403)

    path = f"/approvals/{pending[0]['id']}/resolve"
    yes = await bank.client.post(path, json={"status": "approved"}, headers=bank.headers("carol"))
    assert yes.status_code == 200
    assert (await bank.continue_with("alice", run, [])).status_code == 200
    assert (await bank.settled(run))["status"] == "COMPLETED"
    assert bank.executed == ["appoint(5, owner)"]


async def test_the_second_approval_may_be_refused(bank: Bank) -> None:
    run = await bank.create("alice", "appoint")
    assert (await bank.resolve("bob", run)).status_code == 200
    assert (await bank.resume("alice", run, tools=[{**tool_of(run), "user_input_schema": filled("owner")}])).is_success
    assert (await bank.settled(run))["status"] == "PAUSED"
    (pending,) = (
        await bank.client.get("/approvals", params={"status": "pending"}, headers=bank.headers("root"))
    ).json()["data"]
    body = {"status": "rejected", "resolution_data": {"note": "Not her."}}
    assert (
        await bank.client.post(f"/approvals/{pending['id']}/resolve", json=body, headers=bank.headers("bob"))
    ).is_success
    assert (await bank.continue_with("alice", run, [])).is_success
    assert "Not her." in (await bank.settled(run))["content"]
    assert bank.executed == []


async def test_an_administrator_who_gives_the_values_has_fixed_them(bank: Bank) -> None:
    run = await bank.create("alice", "appoint")
    async with bank.nothing_changes():
        for data in (
            {"values": {"role": ["owner"]}},
            {"values": {"role": "owner", "amount": "much"}},
            {"values": {"role": "owner", "other": 1}},
            {"values": {"amount": 7}},
            {"tool_args": {"amount": 7}},
            {"tool_args": {"amount": 7, "role": "owner"}},
            {"values": "owner"},
        ):
            said = bank.refusal(await bank.resolve("bob", run, resolution_data=data), 400)
            assert "owner" not in said
    resolved = await bank.resolve("bob", run, resolution_data={"values": {"role": "owner", "amount": 7}})
    assert (resolved.status_code, resolved.json()["status"]) == (200, "approved"), resolved.text
    async with bank.nothing_changes():
        for changes in (
            {"tool_args": {"amount": 8}},
            {"user_input_schema": filled("thief")},
            {"user_input_schema": filled("owner", amount=8)},
        ):
            answered = [{**tool_of(await bank.get(run)), **changes}]
            bank.refusal(await bank.continue_with("alice", run, answered), 400)
            bank.refusal(await bank.resume("alice", run, tools=answered), 400)
    # What only echoes the run goes through.
    assert (await bank.continue_with("alice", run, [tool_of(run)])).status_code == 200
    assert (await bank.settled(run))["status"] == "COMPLETED"
    assert bank.executed == ["appoint(7, owner)"]


async def test_what_may_be_changed_is_changed_by_whoever_approves_and_by_nobody_after(bank: Bank) -> None:
    changed, plain = await bank.create("alice", "sign"), await bank.create("alice", "sign")
    async with bank.nothing_changes():
        for data in ({"values": {"amount": "much"}}, {"tool_args": {"amount": None}}, {"values": {"other": 1}}):
            bank.refusal(await bank.resolve("bob", changed, resolution_data=data), 400)
    assert (await bank.resolve("bob", changed, resolution_data={"tool_args": {"amount": 7}})).status_code == 200
    assert (await bank.resolve("bob", plain)).status_code == 200
    for run in (changed, plain):
        async with bank.nothing_changes():
            other = [{**tool_of(run), "tool_args": {"amount": 99_999}, "confirmed": True}]
            assert "amount" in bank.refusal(await bank.continue_with("alice", run, other), 400)
            assert "amount" in bank.refusal(await bank.resume("alice", run, tools=other), 400)
        assert (await bank.continue_with("alice", run, [tool_of(run)])).status_code == 200
        await bank.settled(run)
    assert bank.executed == ["sign(7)", "sign(5)"]


async def test_where_several_approve_nobody_changes_anything_alone(bank: Bank) -> None:
    run = await bank.create("alice", "close")
    async with bank.nothing_changes():
        for key in ("values", "tool_args"):
            refused = await bank.resolve("bob", run, resolution_data={key: {"amount": 7}})
            assert "nobody changes it alone" in bank.refusal(refused, 400)


async def test_a_value_is_checked_only_for_somebody_who_decides(bank: Bank) -> None:
    run = await bank.create("alice", "edit")
    async with bank.nothing_changes():
        refused = await bank.answer("alice", run, tool_args={"amount": "much"})
        assert "for others to decide" in bank.refusal(refused, 403)
        assert "valid integer" in bank.refusal(await bank.answer("bob", run, tool_args={"amount": "much"}), 400)
