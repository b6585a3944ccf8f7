"""A decision in the inbox is taken once, as through the other APIs, and sends the run on."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.api.inbox.deciding import decide, waiting
from tests.support.caller import body_of, refusal
from tests.support.server import Server
from tests.support.toolbox import JsonObject, plan

_ARGUMENTS: Final[dict[str, JsonObject]] = {
    "move_file": {"source": "a", "target": "b"},
    "send_email": {"subject": "a"},
    "run_shell": {"command": "a"},
    "sign": {"amount": 5},
}


async def settled(server: Server, run: JsonObject) -> JsonObject:
    """Return the run once nobody executes it."""
    await server.settle(1)
    return await server.read(run)


async def test_approving_sends_the_run_on(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("delete_file")
    answer = body_of(await decide(alice, await waiting(alice)))
    assert answer["continued"] is True
    assert answer["run"]["run_id"] == run["run_id"]
    assert answer["run"]["status"] in {"PENDING", "RUNNING"}
    decision = {"decision": "approve", "by": "alice", "at": "2026-01-01T00:00:00Z", "note": None, "via": "unpause"}
    assert (answer["requirement"]["status"], answer["requirement"]["decision"]) == ("decided", decision)
    assert (await settled(server, run))["status"] == "COMPLETED"
    assert server.executed == ["delete_file(a)"]


async def test_rejecting_with_a_note_tells_the_model(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("delete_file")
    body_of(await decide(alice, await waiting(alice), "reject", note="not that one"))
    assert "not that one" in (await settled(server, run))["content"]
    assert server.executed == []


async def test_an_approver_sends_on_a_run_that_is_not_theirs_to_see(server: Server) -> None:
    run = await server.user("alice").run_tools("edit")
    bob = server.user("bob")
    assert (await bob.get(f"/agents/toolbox/runs/{run['run_id']}")).status_code == 404
    answer = body_of(await decide(bob, await waiting(bob), arguments={"amount": 6}))
    assert answer["continued"] is True
    assert (await settled(server, run))["status"] == "COMPLETED"
    assert server.executed == ["edit(6)"]
    assert (await bob.get(f"/agents/toolbox/runs/{run['run_id']}")).status_code == 404


async def test_the_same_rows_and_audit_as_through_the_route_for_approvals(server: Server) -> None:
    bob = server.user("bob")
    runs = [await server.user("alice").run_tools("deploy") for _ in range(2)]
    assert (await bob.resolve(await server.approval_of(runs[0]), resolution_data={"note": "fine"})).status_code == 200
    item = await waiting(bob)
    answer = body_of(await decide(bob, item, note="fine"))
    assert answer["continued"] is True
    rows = {row["run_key"]: row for row in (await server.dump())["approvals"]}
    first, second = [{**rows[await server.key_of(run)], "id": 0, "run_key": 0} for run in runs]
    assert first == second
    trails = [await server.audit(run_id=run["run_id"]) for run in runs]
    actions = [[(entry["action"], entry["decision"], entry["note"]) for entry in trail] for trail in trails]
    assert actions[0] == actions[1] == [("approval.resolved", "confirmed", "fine")]
    assert [entry["via"] for trail in trails for entry in trail] == ["agno", "unpause"]
    assert (await settled(server, runs[1]))["status"] == "COMPLETED"
    assert (await server.read(runs[0]))["status"] == "PAUSED"


async def test_who_resolved_an_approval_through_agentos_sends_the_run_on_here(server: Server) -> None:
    bob = server.user("bob")
    run = await server.user("alice").run_tools("deploy")
    item = await waiting(bob)
    assert (await bob.resolve(await server.approval_of(run))).status_code == 200
    assert body_of(await decide(bob, item))["continued"] is True
    assert (await settled(server, run))["status"] == "COMPLETED"


async def test_a_form_is_filled_in_and_checked_by_the_tool(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.create(plan([("book", {"day": "Monday"})]))
    item = await waiting(alice)
    async with server.nothing_changes():
        for values in ({}, {"seats": "many"}, {"seats": 2, "day": "Tuesday"}, {"seats": 2, "else": 1}):
            response = await decide(alice, item, "answer", values=values)
            assert (response.status_code, response.json()["error_code"]) == (422, "bad_request"), values
    body_of(await decide(alice, item, "answer", values={"seats": 2}))
    await settled(server, run)
    assert server.executed == ["book(Monday, 2, False)"] or server.executed[0].startswith("book(Monday, 2")


async def test_a_question_is_answered_in_words_and_nothing_else_is(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.create(plan([("ask", {"question": "Why?"}), ("delete_file", {"path": "a"})]))
    async with server.nothing_changes():
        for tool, decision, body in (
            ("ask", "approve", {}),
            ("ask", "answer", {"values": {"a": 1}}),
            ("delete_file", "answer", {"answer": "yes"}),
            ("delete_file", "approve", {"result": "done"}),
            ("delete_file", "approve", {"arguments": {"path": "b"}}),
        ):
            response = await decide(alice, await waiting(alice, tool), decision, **body)
            assert response.status_code == 422, (tool, decision, response.text)
    body_of(await decide(alice, await waiting(alice, "delete_file"), "reject"))
    body_of(await decide(alice, await waiting(alice, "ask"), "answer", answer="Because."))
    assert "Because." in (await settled(server, run))["content"]


async def test_the_result_of_an_external_call_goes_to_the_model(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.create(plan([("run_shell", {"command": "ls"})]))
    item = await waiting(alice)
    assert (await decide(alice, item, "approve")).status_code == 422
    body_of(await decide(alice, item, "answer", result={"files": ["a"]}))
    assert '{"files":["a"]}' in (await settled(server, run))["content"]


async def test_an_approved_external_call_waits_for_its_result(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    run = await alice.create(plan([("run_job", {"command": "ls"})]))
    item = await waiting(bob)
    assert (await decide(bob, item, "answer", result="x")).status_code == 422
    answer = body_of(await decide(bob, item))
    assert (answer["continued"], answer["requirement"]["status"]) == (False, "open")
    assert (await waiting(alice))["needs_approval"] is False
    body_of(await decide(alice, item, "answer", result="done"))
    assert "done" in (await settled(server, run))["content"]


async def test_the_run_goes_on_with_the_last_of_several_decisions(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    run = await alice.run_tools("delete_file", "edit", "deploy")
    for caller, tool, continued in ((alice, "delete_file", False), (bob, "deploy", False), (bob, "edit", True)):
        assert body_of(await decide(caller, await waiting(caller, tool)))["continued"] is continued
    assert (await settled(server, run))["status"] == "COMPLETED"
    assert sorted(server.executed) == ["delete_file(a)", "deploy(prod)", "edit(5)"]


async def test_a_quorum_is_reached_by_different_people(server: Server) -> None:
    alice, root = server.user("alice"), server.user("root")
    run = await alice.run_tools("move")
    item = await waiting(alice)
    first = body_of(await decide(alice, item, note="fine"))
    assert (first["continued"], first["requirement"]["quorum"]) == (False, 2)
    assert [vote["by"] for vote in first["requirement"]["votes"]] == ["alice"]
    # It waits for others now, and the same vote again is no second one.
    assert body_of(await alice.get("/inbox"))["data"] == []
    async with server.nothing_changes():
        assert body_of(await decide(alice, item, note="fine"))["requirement"] == first["requirement"]
    assert body_of(await decide(root, await waiting(root)))["continued"] is True
    assert (await settled(server, run))["status"] == "COMPLETED"


async def test_a_decision_may_be_stored_without_sending_the_run_on(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("delete_file")
    item = await waiting(alice)
    kept = body_of(await decide(alice, item, continues=False))
    assert (kept["continued"], kept["run"]["status"], kept["requirement"]["status"]) == (False, "PAUSED", "decided")
    assert server.executed == []
    assert body_of(await decide(alice, item))["continued"] is True
    assert (await settled(server, run))["status"] == "COMPLETED"


async def test_the_same_decision_again_changes_nothing_and_another_is_told_who_was_first(server: Server) -> None:
    alice, root = server.user("alice"), server.user("root")
    run = await alice.run_tools("delete_file")
    item = await waiting(alice)
    body_of(await decide(alice, item, "reject", note="no"))
    await settled(server, run)
    first = {"decision": "reject", "by": "alice", "at": "2026-01-01T00:00:00Z", "note": "no", "via": "unpause"}
    async with server.nothing_changes():
        again = body_of(await decide(alice, item, "reject", note="no"))
        assert (again["requirement"]["decision"], again["continued"]) == (first, False)
        for caller, decision in ((alice, "approve"), (root, "reject"), (root, "approve")):
            response = await decide(caller, item, decision)
            assert body_of(response, 409) == {
                "detail": f"Tool call {item['tool_call_id']} (delete_file) was already rejected by alice",
                "error_code": "already_decided",
                "decision": first,
            }


async def test_a_decision_with_other_contents_is_no_repeat_of_the_first(server: Server) -> None:
    cases: list[tuple[str, JsonObject, list[JsonObject]]] = [
        ("move_file", {}, [{"arguments": {"target": "z"}}, {"values": {"target": "z"}}]),
        ("move_file", {"arguments": {"target": "y"}}, [{}, {"arguments": {"target": "y", "source": "z"}}]),
        (
            "send_email",
            {"values": {"to_address": "a", "body": "b"}},
            [{}, {"values": {"to_address": "a"}}, {"values": {"to_address": "a", "body": "b", "subject": "z"}}],
        ),
        ("run_shell", {"decision": "answer", "result": "y"}, [{"decision": "answer", "result": "z"}, {}]),
        ("sign", {"note": "fine", "arguments": {"amount": 6}}, [{}, {"note": "fine"}, {"arguments": {"amount": 7}}]),
    ]
    root = server.user("root")
    for tool, first, others in cases:
        await root.create([(tool, _ARGUMENTS[tool])])
        path = f"/inbox/{(await waiting(root))['requirement_id']}/decide"
        body_of(await root.post(path, {"decision": "approve", **first}))
        await server.settle(1)
        async with server.nothing_changes():
            again = body_of(await root.post(path, {"decision": "approve", **first}))
            assert (again["continued"], again["requirement"]["decision"]["note"]) == (False, first.get("note"))
            for other in others:
                refused = body_of(await root.post(path, {"decision": "approve", **other}), 409)
                assert refused["decision"]["by"] == "root", (tool, other)


async def test_whoever_confirmed_first_of_several_may_repeat_it_once_all_have(server: Server) -> None:
    alice, root = server.user("alice"), server.user("root")
    await alice.run_tools("move")
    item = await waiting(alice)
    for voter in (alice, root):
        body_of(await decide(voter, item))
    await server.settle(1)
    assert body_of(await decide(alice, item))["requirement"]["status"] == "decided"


async def test_a_request_with_the_same_key_gets_the_same_answer(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("delete_file")
    item = await waiting(alice)
    first = await decide(alice, item, key="k")
    await settled(server, run)
    async with server.nothing_changes():
        assert (await decide(alice, item, key="k")).content == first.content
        assert (await decide(alice, item, "reject", key="k")).status_code == 422


async def test_what_expired_or_was_cancelled_cannot_be_decided(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("soon_rejected")
    item = await waiting(alice)
    server.clock.move(61)
    late = body_of(await decide(alice, item), 409)
    assert (late["decision"]["decision"], late["decision"]["via"]) == ("reject", "expiry")
    assert (await settled(server, run))["status"] == "COMPLETED"
    run = await alice.run_tools("delete_file")
    item = await waiting(alice)
    await alice.cancel(run)
    assert body_of(await decide(alice, item), 409)["decision"] is None


async def test_who_may_not_decide_is_refused_and_who_may_not_see_finds_nothing(server: Server) -> None:
    run = await server.user("alice").run_tools("transfer", "edit", "deploy")
    requests = [{"requirement_id": requirement["id"]} for requirement in run["requirements"]]
    plain, reader = await server.add_user(1, "alice"), await server.add_user(1, "alice", "agents:read")
    stranger = await server.add_user(1, "dora")
    async with server.nothing_changes():
        for item in requests:
            for caller, status in ((plain, 403), (reader, 403), (stranger, 404), (server.user("rival"), 404)):
                refused = await decide(caller, item)
                assert refused.status_code == status, refused.text
                assert refused.json()["error_code"] == {403: "forbidden", 404: "not_found"}[status]


async def test_several_decisions_are_taken_each_by_itself(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("delete_file", "delete_file", "edit")
    other = await alice.run_tools("delete_file")
    ids = [requirement["id"] for requirement in (*run["requirements"], *other["requirements"])]
    sent = {"decisions": [{"requirement_id": name, "decision": "approve"} for name in [*ids, "nobody"]]}
    taken = body_of(await alice.post("/inbox/decide", sent, "k"))["data"]
    assert [(one["status_code"], one["continued"]) for one in taken] == [
        (200, False),
        (200, False),
        (403, False),
        (200, True),
        (404, False),
    ]
    assert [one["requirement_id"] for one in taken] == [*ids, "nobody"]
    assert taken[2]["error"]["error_code"] == "forbidden"
    assert (await settled(server, other))["status"] == "COMPLETED"
    async with server.nothing_changes():
        again = body_of(await alice.post("/inbox/decide", sent, "k"))["data"]
    assert [one["status_code"] for one in again] == [one["status_code"] for one in taken]


@pytest.mark.parametrize("body", [{}, {"decision": "maybe"}, {"decision": "approve", "more": 1}, []])
async def test_a_body_of_another_shape_is_refused(server: Server, body: object) -> None:
    await server.user("alice").run_tools("delete_file")
    item = await waiting(server.user("alice"))
    async with server.nothing_changes():
        response = await server.user("alice").post(f"/inbox/{item['requirement_id']}/decide", body)
    assert response.status_code == 422


async def test_of_eight_who_decide_at_once_through_three_apis_one_wins(server: Server) -> None:
    alice, root = server.user("alice"), server.user("root")
    run = await alice.run_tools("delete_file")
    item = await waiting(alice)
    tools = [{"tool_call_id": item["tool_call_id"], "confirmed": True}]
    number = await server.key_of(run)
    deciders = [await server.add_user(1, f"decider-{n}", "agent_os:admin") for n in range(4)]
    resume = "/v1/organizations/1/agent/run/resume"
    responses = await asyncio.gather(
        *(decide(each, item) for each in deciders),
        *(root.post_continue(run, tools, stream="false") for _ in range(2)),
        *(root.post(resume, {"agent_run_id": number, "prompt": "", "tools": tools}) for _ in range(2)),
    )
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [200, *[409] * 7], [response.text for response in responses]
    assert (await settled(server, run))["status"] == "COMPLETED"
    assert server.executed == ["delete_file(a)"]


async def test_in_doubt_a_call_runs_again_only_after_an_approval(server: Server) -> None:
    alice = server.user("alice")
    await alice.run_tools("delete_file")
    assert "delete_file" in refusal(await decide(alice, await waiting(alice), "answer", answer="yes"), 422)
