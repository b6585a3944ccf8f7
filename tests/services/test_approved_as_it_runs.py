"""Whoever approves a call has seen, and fixed, all of what runs: nothing is changed or filled in behind their back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.caller import refusal
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        yield server


def filled(role: str, **more: object) -> list[JsonObject]:
    """Return the form of ``appoint``, filled in."""
    return [{"name": name, "value": value} for name, value in {"role": role, **more}.items()]


def tool_of(run: JsonObject) -> JsonObject:
    (tool,) = run["tools"]
    return dict(tool)


async def test_what_is_filled_in_after_the_approval_is_approved_as_it_is_then(server: Server) -> None:
    run = await server.user("alice").run_tools("appoint")
    assert [field["name"] for field in tool_of(run)["editable"]] == ["amount"]
    resolved = await server.user("bob").resolve(run, resolution_data={"note": "fine"})
    assert (resolved.status_code, resolved.json()["status"]) == (200, "approved")
    assert "editable" not in tool_of(await server.read(run))
    async with server.nothing_changes():
        # Nothing is editable any more, on no way in.
        for refused in (
            await server.user("alice").answer(run, tool_args={"amount": 99_999}, user_input_schema=filled("owner")),
            await server.user("alice").answer(run, user_input_schema=filled("owner", amount=99_999)),
            await server.user("alice").resume(
                run,
                tools=[
                    {**tool_of(run), "tool_args": {"amount": 99_999}, "user_input_schema": filled("owner")},
                ],
            ),
        ):
            assert "amount" in refusal(refused, 400)

    again = await server.user("alice").answer(run, user_input_schema=filled("owner"))
    assert (again.status_code, again.json()["status"]) == (200, "PAUSED"), again.text
    (requirement,) = [item for item in again.json()["requirements"] if "confirmation" not in item][-1:]
    assert "filled in after" in requirement["message"]
    tool = requirement["tool_execution"]
    assert (tool["tool_args"], tool["requires_confirmation"]) == ({"amount": 5, "role": "owner"}, True)
    assert not {"editable", "user_input_schema"} & requirement.keys()
    pending = await server.approvals(status="pending")
    assert [(item["tool_name"], item["tool_args"]) for item in pending] == [("appoint", {"amount": 5, "role": "owner"})]
    assert server.executed == []
    async with server.nothing_changes():
        refusal(await server.user("alice").post_continue(run, [{**tool, "confirmed": True}]), 403)
        refusal(await server.user("alice").resume(run, "go on"), 403)

    path = f"/approvals/{pending[0]['id']}/resolve"
    yes = await server.user("carol").post(path, {"status": "approved"})
    assert yes.status_code == 200
    assert (await server.user("alice").post_continue(run, [])).status_code == 200
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert server.executed == ["appoint(5, owner)"]


async def test_the_second_approval_may_be_refused(server: Server) -> None:
    run = await server.user("alice").run_tools("appoint")
    assert (await server.user("bob").resolve(run)).status_code == 200
    assert (
        await server.user("alice").resume(run, tools=[{**tool_of(run), "user_input_schema": filled("owner")}])
    ).is_success
    assert (await server.settled(run))["status"] == "PAUSED"
    (pending,) = await server.approvals(status="pending")
    body = {"status": "rejected", "resolution_data": {"note": "Not her."}}
    assert (await server.user("bob").post(f"/approvals/{pending['id']}/resolve", body)).is_success
    assert (await server.user("alice").post_continue(run, [])).is_success
    assert "Not her." in (await server.settled(run))["content"]
    assert server.executed == []


async def test_an_administrator_who_gives_the_values_has_fixed_them(server: Server) -> None:
    run = await server.user("alice").run_tools("appoint")
    async with server.nothing_changes():
        for data in (
            {"values": {"role": ["owner"]}},
            {"values": {"role": "owner", "amount": "much"}},
            {"values": {"role": "owner", "other": 1}},
            {"values": {"amount": 7}},
            {"tool_args": {"amount": 7}},
            {"tool_args": {"amount": 7, "role": "owner"}},
            {"values": "owner"},
        ):
            sent = refusal(await server.user("bob").resolve(run, resolution_data=data), 400)
            assert "owner" not in sent
    resolved = await server.user("bob").resolve(run, resolution_data={"values": {"role": "owner", "amount": 7}})
    assert (resolved.status_code, resolved.json()["status"]) == (200, "approved"), resolved.text
    async with server.nothing_changes():
        for changes in (
            {"tool_args": {"amount": 8}},
            {"user_input_schema": filled("thief")},
            {"user_input_schema": filled("owner", amount=8)},
        ):
            answered = [{**tool_of(await server.read(run)), **changes}]
            refusal(await server.user("alice").post_continue(run, answered), 400)
            refusal(await server.user("alice").resume(run, tools=answered), 400)
    # What only echoes the run goes through.
    assert (await server.user("alice").post_continue(run, [tool_of(run)])).status_code == 200
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert server.executed == ["appoint(7, owner)"]


async def test_what_may_be_changed_is_changed_by_whoever_approves_and_by_nobody_after(server: Server) -> None:
    changed, plain = await server.user("alice").run_tools("sign"), await server.user("alice").run_tools("sign")
    async with server.nothing_changes():
        for data in ({"values": {"amount": "much"}}, {"tool_args": {"amount": None}}, {"values": {"other": 1}}):
            refusal(await server.user("bob").resolve(changed, resolution_data=data), 400)
    assert (await server.user("bob").resolve(changed, resolution_data={"tool_args": {"amount": 7}})).status_code == 200
    assert (await server.user("bob").resolve(plain)).status_code == 200
    for run in (changed, plain):
        async with server.nothing_changes():
            other = [{**tool_of(run), "tool_args": {"amount": 99_999}, "confirmed": True}]
            assert "amount" in refusal(await server.user("alice").post_continue(run, other), 400)
            assert "amount" in refusal(await server.user("alice").resume(run, tools=other), 400)
        assert (await server.user("alice").post_continue(run, [tool_of(run)])).status_code == 200
        await server.settled(run)
    assert server.executed == ["sign(7)", "sign(5)"]


async def test_where_several_approve_nobody_changes_anything_alone(server: Server) -> None:
    run = await server.user("alice").run_tools("close")
    async with server.nothing_changes():
        for key in ("values", "tool_args"):
            refused = await server.user("bob").resolve(run, resolution_data={key: {"amount": 7}})
            assert "nobody changes it alone" in refusal(refused, 400)


async def test_a_value_is_checked_only_for_somebody_who_decides(server: Server) -> None:
    run = await server.user("alice").run_tools("edit")
    async with server.nothing_changes():
        refused = await server.user("alice").answer(run, tool_args={"amount": "much"})
        assert "only be decided by its approvers" in refusal(refused, 403)
        assert "valid integer" in refusal(await server.user("bob").answer(run, tool_args={"amount": "much"}), 400)
