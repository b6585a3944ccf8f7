"""Approvals: what an administrator decides, once, and nobody overrules."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.support.caller import body_of, confirming
from tests.support.server import Server
from tests.support.toolbox import DEPLOY, JsonObject, plan

GRANT = plan([("grant", {"user": "bob"})])
JOB = plan([("run_job", {"command": "ls"})])


async def test_a_pause_for_an_administrator_makes_one_pending_approval_of_that_call(server: Server) -> None:
    run = await server.create(DEPLOY, user_id="ada", session_id="s")
    approval = await server.approval_of(run)
    shown = {key: approval[key] for key in ("status", "approval_type", "pause_type", "tool_name", "tool_args")}
    assert shown == {
        "status": "pending",
        "approval_type": "required",
        "pause_type": "confirmation",
        "tool_name": "deploy",
        "tool_args": {"env": "prod"},
    }
    assert [approval[key] for key in ("session_id", "user_id", "agent_id", "source_type", "run_status")] == [
        "s",
        "ada",
        "toolbox",
        "agent",
        "PAUSED",
    ]
    assert run["tools"][0]["approval_id"] == approval["id"]
    assert run["tools"][0]["approval_type"] == "required"


async def test_two_calls_in_one_answer_make_two_approvals_and_both_must_be_decided(server: Server) -> None:
    run = await server.create(plan([("deploy", {"env": "a"}), ("deploy", {"env": "b"})]))
    first, second = sorted(await server.approvals(), key=lambda item: str(item["tool_args"]))
    body_of(await server.resolve(first))
    assert (await server.post_continue(run)).status_code == 403
    body_of(await server.resolve(second, "rejected"))
    assert (await server.continued(run))["status"] == "COMPLETED"
    assert server.executed == ["deploy(a)"]


async def test_every_filter_narrows_the_list(server: Server) -> None:
    ada = await server.create(DEPLOY, user_id="ada")
    other = await server.create(DEPLOY, agent="other", user_id="bob")
    form = await server.create(GRANT)
    job = await server.create(JOB)
    audited = await server.create(plan([("pay", {"amount": 5})]))
    await server.continued(audited, confirming(audited))
    body_of(await server.resolve(await server.approval_of(other), "rejected"))

    async def runs(**query: object) -> set[str]:
        return {item["run_id"] for item in await server.approvals(**query)}

    names = {"ada": ada, "other": other, "form": form, "job": job, "audited": audited}
    ids = {name: run["run_id"] for name, run in names.items()}
    assert await runs() == set(ids.values())
    assert await runs(status="pending") == {ids["ada"], ids["form"], ids["job"]}
    assert await runs(status="rejected") == {ids["other"]}
    assert await runs(status="approved") == {ids["audited"]}
    assert await runs(status="expired") == set()
    assert await runs(approval_type="audit") == {ids["audited"]}
    assert await runs(approval_type="required") == set(ids.values()) - {ids["audited"]}
    assert await runs(pause_type="user_input") == {ids["form"]}
    assert await runs(pause_type="external_execution") == {ids["job"]}
    assert await runs(agent_id="other") == {ids["other"]}
    assert await runs(user_id="ada") == {ids["ada"]}
    assert await runs(run_id=ids["job"]) == {ids["job"]}
    assert await runs(source_type="agent") == set(ids.values())
    assert await runs(status="pending", pause_type="confirmation", user_id="ada") == {ids["ada"]}
    for nobody in ("team_id", "workflow_id", "schedule_id", "source_type"):
        assert await runs(**{nobody: "x"}) == set()


async def test_a_filter_that_makes_no_sense_is_refused(server: Server) -> None:
    cases: list[dict[str, str]] = [
        {"status": "maybe"},
        {"approval_type": "x"},
        {"pause_type": "x"},
        {"limit": "0"},
        {"limit": "1001"},
        {"page": "0"},
    ]
    for query in cases:
        response = await server.client.get("/approvals", params=query)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["query", *query]


async def test_pages_are_newest_first_and_together_the_whole_list(server: Server) -> None:
    made = []
    for _ in range(5):
        made.append((await server.create(DEPLOY))["run_id"])
        server.clock.move(1)
    pages = [body_of(await server.client.get("/approvals", params={"limit": 2, "page": page})) for page in (1, 2, 3, 4)]
    assert [[item["run_id"] for item in page["data"]] for page in pages] == [
        [made[4], made[3]],
        [made[2], made[1]],
        [made[0]],
        [],
    ]
    for number, page in enumerate(pages, 1):
        meta = {"page": number, "limit": 2, "total_pages": 3, "total_count": 5, "search_time_ms": 0.0}
        assert page["meta"] == meta


async def test_only_pending_approvals_are_counted(server: Server) -> None:
    for user in ("ada", "ada", "bob"):
        await server.create(DEPLOY, user_id=user)
    decided = (await server.approvals(user_id="ada"))[0]
    body_of(await server.resolve(decided))
    assert body_of(await server.get("/approvals/count")) == {"count": 2}
    assert body_of(await server.client.get("/approvals/count", params={"user_id": "ada"})) == {"count": 1}
    assert body_of(await server.get("/approvals/count/")) == {"count": 2}


async def test_one_approval_comes_with_its_requirement_and_a_short_status(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    whole = body_of(await server.get(f"/approvals/{approval['id']}"))
    (requirement,) = whole.pop("requirements")
    assert whole == {key: value for key, value in approval.items() if key != "requirements"}
    assert requirement["tool_execution"]["tool_call_id"] == run["tools"][0]["tool_call_id"]
    assert requirement["tool_execution"]["tool_args"] == {"env": "prod"}
    assert body_of(await server.get(f"/approvals/{approval['id']}/status")) == {
        "approval_id": approval["id"],
        "status": "pending",
        "run_id": run["run_id"],
        "resolved_at": None,
        "resolved_by": None,
    }


async def test_an_approval_that_is_deleted_while_it_is_read_is_not_there(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval = await server.approval_of(await server.create(DEPLOY))
    # As PostgreSQL shows it to the second of two statements.
    monkeypatch.setattr("unpause.services.approvals.find_requirements", lambda *_: {})
    assert await server.approvals() == []
    assert (await server.get(f"/approvals/{approval['id']}")).status_code == 404


async def test_a_name_that_no_database_takes_decides_nothing(server: Server) -> None:
    approval = await server.approval_of(await server.create(DEPLOY))
    async with server.nothing_changes():
        assert (await server.resolve(approval, resolved_by="ro\0ot")).status_code == 400


async def test_an_unknown_approval_is_not_found_by_any_route(server: Server) -> None:
    answers = [
        await server.get("/approvals/nope"),
        await server.get("/approvals/nope/status"),
        await server.resolve({"id": "nope"}),
        await server.delete("/approvals/nope"),
    ]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(404, {"detail": "Approval not found"})] * 4


async def test_an_approved_call_runs_when_somebody_continues_and_not_before(server: Server) -> None:
    run = await server.create(DEPLOY)
    resolved = body_of(await server.resolve(await server.approval_of(run), resolved_by="root"))
    assert (resolved["status"], resolved["resolved_by"], resolved["run_status"]) == ("approved", "root", "PAUSED")
    assert resolved["resolved_at"] == int(server.clock.now().timestamp())
    assert (await server.read(run))["status"] == "PAUSED"
    assert server.executed == []
    done = await server.continued(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "Done. deploy: did deploy(prod).")
    assert (await server.approval_of(run))["run_status"] == "COMPLETED"
    assert server.executed == ["deploy(prod)"]


@pytest.mark.parametrize("with_tools", [True, False])
async def test_a_rejected_call_runs_for_nobody(server: Server, with_tools: bool) -> None:  # noqa: FBT001
    run = await server.create(DEPLOY)
    body_of(await server.resolve(await server.approval_of(run), "rejected", resolution_data={"note": "not on Friday"}))
    done = await server.continued(run, confirming(run) if with_tools else "")
    assert done["status"] == "COMPLETED"
    assert "not on Friday" in done["content"]
    assert server.executed == []


async def test_while_it_is_pending_nobody_can_continue(server: Server) -> None:
    run = await server.create(DEPLOY)
    async with server.nothing_changes():
        for tools in ("", confirming(run), confirming(run, confirmed=False)):
            for stream in ("true", "false"):
                response = await server.post_continue(run, tools, stream=stream)
                assert response.status_code == 403
                assert response.json() == {
                    "detail": "This run requires admin approval before it can be continued",
                }


async def test_a_second_decision_is_told_of_the_first(server: Server) -> None:
    approval = await server.approval_of(await server.create(DEPLOY))
    body_of(await server.resolve(approval, resolved_by="root"))
    async with server.nothing_changes():
        late = await server.resolve(approval, "rejected", resolved_by="late")
    assert late.status_code == 409
    assert late.json() == {
        "detail": "Approval is already 'approved' and cannot be resolved",
        "resolved_by": "root",
        "resolved_at": server.clock.now().isoformat(),
    }


async def test_of_20_decisions_at_once_one_counts_and_19_hear_which(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    answers = await asyncio.gather(
        *(
            server.resolve(approval, "approved" if number % 2 else "rejected", resolved_by=f"admin-{number}")
            for number in range(20)
        )
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 19}
    (winner,) = (answer.json() for answer in answers if answer.status_code == 200)
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["resolved_by"] == winner["resolved_by"]
            assert answer.json()["detail"] == f"Approval is already '{winner['status']}' and cannot be resolved"
    await server.continued(run)
    assert server.executed == (["deploy(prod)"] if winner["status"] == "approved" else [])


async def test_a_deleted_approval_declines_its_call(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    response = await server.delete(f"/approvals/{approval['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert await server.approvals() == []
    done = await server.continued(run, confirming(run))
    assert (done["status"], done["content"]) == (
        "COMPLETED",
        "Done. deploy: The approval was deleted by an administrator.",
    )
    assert server.executed == []


async def test_deleting_the_record_of_a_decision_leaves_the_decision(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    body_of(await server.resolve(approval))
    assert (await server.delete(f"/approvals/{approval['id']}")).status_code == 204
    assert (await server.continued(run))["content"] == "Done. deploy: did deploy(prod)."


@pytest.mark.parametrize("data", [{"values": {"role": "editor"}}, {"role": "editor"}])
async def test_the_decision_can_bring_the_values(server: Server, data: JsonObject) -> None:
    run = await server.create(GRANT)
    resolved = body_of(await server.resolve(await server.approval_of(run), resolution_data=data))
    assert resolved["resolution_data"] == data
    assert (await server.continued(run))["content"] == "Done. grant: did grant(bob, editor)."


async def test_the_decision_can_bring_the_result(server: Server) -> None:
    run = await server.create(JOB)
    body_of(await server.resolve(await server.approval_of(run), resolution_data={"result": "job ok"}))
    assert (await server.continued(run))["content"] == "Done. run_job: job ok."


async def test_a_yes_without_the_values_leaves_them_to_whoever_continues_and_is_asked_for_once_more(
    server: Server,
) -> None:
    run = await server.create(GRANT)
    body_of(await server.resolve(await server.approval_of(run)))
    async with server.nothing_changes():
        assert (await server.post_continue(run)).status_code == 400
    tool = run["tools"][0]
    schema = [{**item, "value": item["value"] or "viewer"} for item in tool["user_input_schema"]]
    again = await server.continued(run, [{**tool, "user_input_schema": schema}])
    assert (again["status"], again["tools"][0]["tool_args"]) == ("PAUSED", {"user": "bob", "role": "viewer"})
    (pending,) = [approval for approval in await server.approvals() if approval["status"] == "pending"]
    assert pending["tool_args"] == {"user": "bob", "role": "viewer"}
    body_of(await server.resolve(pending))
    assert (await server.continued(run))["content"] == "Done. grant: did grant(bob, viewer)."


@pytest.mark.parametrize(
    ("message", "data"),
    [
        (GRANT, {"values": {"role": None, "user": "eve"}}),
        (GRANT, {"values": {"role": "editor", "user": "eve"}}),
        (GRANT, {"values": {"role": "editor", "age": 5}}),
        (GRANT, {"values": {"role": ["editor"]}}),
    ],
)
async def test_values_that_do_not_fit_are_refused_and_change_nothing(
    server: Server, message: str, data: JsonObject
) -> None:
    run = await server.create(message)
    approval = await server.approval_of(run)
    async with server.nothing_changes():
        assert (await server.resolve(approval, resolution_data=data)).status_code == 400
    assert (await server.approval_of(run))["status"] == "pending"


async def test_a_decision_that_is_none_is_refused(server: Server) -> None:
    cases: list[JsonObject] = [
        {},
        {"status": "maybe"},
        {"status": "expired"},
        {"resolved_by": "x" * 256},
        {"resolution_data": ["x"]},
    ]
    for body in cases:
        approval = await server.approval_of(await server.create(DEPLOY))
        sent = body if not body or "status" in body else {"status": "approved", **body}
        async with server.nothing_changes():
            response = await server.post(f"/approvals/{approval['id']}/resolve", sent)
        assert response.status_code == 422


@pytest.mark.parametrize(("confirmed", "status"), [(True, "approved"), (False, "rejected")])
async def test_an_audited_decision_of_the_user_is_on_record(server: Server, confirmed: bool, status: str) -> None:  # noqa: FBT001
    run = await server.create(plan([("pay", {"amount": 5})]))
    assert await server.approvals() == []
    await server.continued(run, confirming(run, confirmed=confirmed, confirmation_note="mine"), user_id="ada")
    record = await server.approval_of(run)
    assert (record["status"], record["approval_type"], record["resolved_by"]) == (status, "audit", "ada")
    assert record["resolution_data"] == {"note": "mine"}
    assert record["tool_args"] == {"amount": 5}
    assert record["requirements"] is None
    assert body_of(await server.get(f"/approvals/{record['id']}")) == record
    assert body_of(await server.get("/approvals/count")) == {"count": 0}
    assert (await server.resolve(record)).status_code == 409


async def test_who_decided_is_unknown_where_nobody_says(server: Server) -> None:
    run = await server.create(DEPLOY)
    assert body_of(await server.resolve(await server.approval_of(run)))["resolved_by"] is None


async def test_the_approval_of_a_cancelled_run_cannot_be_resolved(server: Server) -> None:
    run = await server.create(DEPLOY)
    body_of(await server.cancel(run))
    approval = await server.approval_of(run)
    assert (approval["status"], approval["run_status"]) == ("cancelled", "CANCELLED")
    late = await server.resolve(approval)
    assert late.status_code == 409
    assert late.json()["detail"] == "Approval is already 'cancelled' and cannot be resolved"
