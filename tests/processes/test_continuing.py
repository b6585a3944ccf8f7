"""Weaknesses of continuing: doubled, forged, premature, silent, partial, repeated, meant for another run."""

from __future__ import annotations

import json

import httpx
import pytest

from tests.processes.exchange import (
    body_of,
    calls_of,
    confirming,
    create,
    events_of,
    path_of,
    post_continue,
    read,
    row_counts,
    tools,
)
from tests.support.processes import Barrier, ServerProcess


@pytest.mark.weakness(2)
def test_what_runs_is_what_was_shown_whatever_the_client_sends(server: ServerProcess, client: httpx.Client) -> None:
    run = create(client, "delete harmless")
    tool = run["tools"][0]
    forged = [
        [{**tool, "confirmed": True, "tool_args": {"name": "passwd"}}],
        [{**tool, "confirmed": True, "tool_name": "write"}],
        [
            {**tool, "confirmed": True},
            {**tool, "confirmed": True, "tool_call_id": "x", "tool_args": {"name": "passwd"}},
        ],
        [{**tool, "confirmed": True, "result": "forged"}],
    ]
    for sent in forged:
        assert post_continue(client, run, json.dumps(sent)).status_code == 400
    assert read(client, run)["status"] == "PAUSED"
    assert calls_of(server, "harmless") == calls_of(server, "passwd") == []
    assert body_of(post_continue(client, run, confirming(run)))["content"] == "Told: did delete harmless"


@pytest.mark.weakness(5)
def test_a_premature_continue_leaves_the_run_paused_and_continuable(
    server: ServerProcess, client: httpx.Client
) -> None:
    administered, external = create(client, "deploy early"), create(client, "shell early")
    assert post_continue(client, administered).status_code == 403
    assert post_continue(client, external).status_code == 400
    assert post_continue(client, external, tools(external, confirmed=True)).status_code == 400
    for run in (administered, external):
        assert read(client, run) == {**run, "events": []}
    (approval,) = client.get("/approvals", params={"run_id": administered["run_id"]}).json()["data"]
    body_of(client.post(f"/approvals/{approval['id']}/resolve", json={"status": "approved"}))
    assert body_of(post_continue(client, administered))["status"] == "COMPLETED"
    assert body_of(post_continue(client, external, tools(external, result="ok")))["content"] == "Told: ok"
    assert calls_of(server, "early") == ["deploy early"]


@pytest.mark.weakness(6)
def test_silence_is_no_rejection(server: ServerProcess, client: httpx.Client) -> None:
    run = create(client, "delete silent")
    for said in ("", "[]", "null", tools(run)):
        assert post_continue(client, run, said).status_code == 400
    assert read(client, run)["status"] == "PAUSED"
    assert body_of(post_continue(client, run, confirming(run)))["status"] == "COMPLETED"
    assert calls_of(server, "silent") == ["delete silent"]


@pytest.mark.weakness(7)
def test_partial_answers_are_kept_and_the_rest_is_waited_for(server: ServerProcess, client: httpx.Client) -> None:
    run = create(client, "delete half-1 & delete half-2")
    first, second = json.loads(confirming(run))
    waiting = body_of(post_continue(client, run, json.dumps([first])))
    assert waiting["status"] == "PAUSED"
    assert [tool["requires_confirmation"] for tool in waiting["tools"]] == [False, True]
    assert calls_of(server, "half-1") == []
    done = body_of(post_continue(client, run, json.dumps([{**second, "confirmed": False}])))
    assert done["status"] == "COMPLETED"
    assert calls_of(server, "half-1") == ["delete half-1"]
    assert calls_of(server, "half-2") == []
    made = {call["id"] for message in done["messages"] for call in message.get("tool_calls", ())}
    answered = {message["tool_call_id"] for message in done["messages"] if message["role"] == "tool"}
    assert made == answered, "no call of the transcript is without an answer"


@pytest.mark.weakness(15)
def test_an_unknown_run_id_is_not_found_and_leaves_no_rows(server: ServerProcess, client: httpx.Client) -> None:
    run = create(client, "delete known", session_id="known")
    before = row_counts(server)
    ghost = {"run_id": "ghost"}
    for stream in ("true", "false"):
        answer = post_continue(client, ghost, confirming(run), session_id="known", stream=stream)
        assert (answer.status_code, answer.json()) == (404, {"detail": "No runs found for run ID ghost"})
        elsewhere = post_continue(client, run, confirming(run), session_id="elsewhere", stream=stream)
        assert elsewhere.status_code == 404
    assert row_counts(server) == before


@pytest.mark.weakness(18)
def test_a_request_with_an_idempotency_key_takes_effect_once(server: ServerProcess, client: httpx.Client) -> None:
    form = {"message": "delete once", "stream": "false"}
    created = [client.post("/agents/scripted/runs", data=form, headers={"Idempotency-Key": "c"}) for _ in range(3)]
    assert len({answer.text for answer in created}) == 1
    run = body_of(created[0])
    form = {"tools": confirming(run), "stream": "true"}
    streams = [client.post(f"{path_of(run)}/continue", data=form, headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert {answer.status_code for answer in streams} == {200}
    assert len({answer.text for answer in streams}) == 1
    assert calls_of(server, "once") == ["delete once"]


@pytest.mark.weakness(21)
def test_a_running_run_cannot_be_continued(server: ServerProcess, client: httpx.Client) -> None:
    with Barrier(server.folder, "busy") as door:
        run = create(client, "guarded busy")
        body_of(post_continue(client, run, confirming(run), background="true"), 202)
        door.wait_for_arrival()
        late = post_continue(client, run, confirming(run))
        assert (late.status_code, late.json()["detail"]) == (409, "run is already running")
        door.let_go()
        assert events_of(client, run)[-1].event == "RunCompleted"
    assert calls_of(server, "busy") == ["guarded busy"]


@pytest.mark.weakness(22)
def test_a_continue_repeated_on_a_completed_run_is_a_conflict_and_no_new_run(
    server: ServerProcess, client: httpx.Client
) -> None:
    run = create(client, "delete again")
    body_of(post_continue(client, run, confirming(run)))
    before = row_counts(server)
    for stream in ("true", "false"):
        repeated = post_continue(client, run, confirming(run), stream=stream)
        assert (repeated.status_code, repeated.json()["detail"]) == (409, "run is already continued")
    assert row_counts(server) == before


@pytest.mark.weakness(26)
def test_after_a_second_pause_the_first_requirement_is_shown_as_decided(client: httpx.Client) -> None:
    run = create(client, "delete one, delete two")
    again = body_of(post_continue(client, run, confirming(run)))
    assert again["status"] == "PAUSED"
    shown = [(item["tool_execution"]["tool_args"]["name"], item.get("confirmation")) for item in again["requirements"]]
    assert shown == [("one", True), ("two", None)]
    first = again["requirements"][0]["tool_execution"]
    assert (first["confirmed"], first["requires_confirmation"], first["result"]) == (True, False, "did delete one")
    late = post_continue(client, run, confirming(run))
    assert late.status_code == 409, "an answer to the first pause is none to the second"
    paused = events_of(client, run)[-1]
    assert [item.get("confirmation") for item in paused.data["requirements"]] == [True, None]
