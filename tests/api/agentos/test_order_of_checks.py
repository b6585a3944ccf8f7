"""In which order AgentOS's API looks at a continue (agno.md section 2).

Each request breaks two neighbouring rules; the answer is that of the first.
"""

from __future__ import annotations

from tests.support.caller import confirmed
from tests.support.server import Server
from tests.support.statements import statements

DELETE = ("delete_file", {"path": "/a"})
BAD_BOOLEAN = {
    "type": "bool_parsing",
    "loc": ["body", "stream"],
    "msg": "Input should be a valid boolean, unable to interpret input",
    "input": "maybe",
}


async def test_a_bad_form_is_told_before_bad_json(server: Server) -> None:
    run = await server.create([DELETE])
    assert await server.refused(run, "{not json", stream="maybe") == (422, {"detail": [BAD_BOOLEAN]})


async def test_bad_json_is_told_before_an_unknown_agent(server: Server) -> None:
    run = await server.create([DELETE])
    async with server.nothing_changes():
        response = await server.post_continue({**run, "agent_id": "nobody"}, "{not json")
    assert (response.status_code, response.json()) == (400, {"detail": "Invalid JSON in tools field"})


async def test_an_unknown_agent_is_told_before_the_runs_state(server: Server) -> None:
    run = await server.create()
    response = await server.post_continue({**run, "agent_id": "nobody"}, "[]", session_id=run["session_id"])
    assert (response.status_code, response.json()) == (404, {"detail": "Agent not found"})


async def test_bad_json_is_told_before_the_runs_state(server: Server) -> None:
    run = await server.create()
    response = await server.post_continue(run, "{not json", session_id=run["session_id"])
    assert (response.status_code, response.json()) == (400, {"detail": "Invalid JSON in tools field"})


async def test_an_unknown_agent_is_told_before_tools_of_the_wrong_structure(server: Server) -> None:
    run = await server.create([DELETE])
    async with server.nothing_changes():
        response = await server.post_continue({**run, "agent_id": "nobody"}, "5")
    assert (response.status_code, response.json()) == (404, {"detail": "Agent not found"})


async def test_a_wrong_session_is_told_before_the_runs_state(server: Server) -> None:
    run = await server.create()
    response = await server.post_continue(run, "[]", session_id="elsewhere")
    assert response.status_code == 404


async def test_the_runs_state_is_told_before_tools_of_the_wrong_structure(server: Server) -> None:
    run = await server.create()
    for text in ("5", "[null]", '[{"tool_call_id": 1}]'):
        response = await server.post_continue(run, text, session_id=run["session_id"])
        assert response.status_code == 409
        assert response.json()["detail"] == "run is already continued"


async def test_tools_of_the_wrong_structure_are_told_before_an_older_pause(server: Server) -> None:
    run = await server.create([DELETE])
    status, body = await server.refused(run, "5", pause_id="older")
    assert (status, body["detail"]) == (
        400,
        "Invalid structure or content for tools: 'int' object is not iterable",
    )


async def test_an_older_pause_is_told_before_answers_that_do_not_fit(server: Server) -> None:
    run = await server.create([DELETE])
    status, _ = await server.refused(run, [{"tool_call_id": "unknown", "confirmed": True}], pause_id="older")
    assert status == 409


async def test_a_pending_approval_is_told_before_answers_that_do_not_fit(server: Server) -> None:
    run = await server.create([("deploy", {"env": "prod"})])
    status, _ = await server.refused(run, [{"tool_call_id": "unknown", "confirmed": True}])
    assert status == 403


async def test_an_unknown_run_is_told_before_tools_of_the_wrong_structure(server: Server) -> None:
    response = await server.post_continue({"agent_id": "toolbox", "run_id": "no-such-run"}, "5")
    assert (response.status_code, response.json()) == (404, {"detail": "No runs found for run ID no-such-run"})


async def test_the_runs_state_is_told_first_under_an_idempotency_key_too(server: Server) -> None:
    run = await server.create()
    for text in ("5", "[]"):
        response = await server.client.post(
            f"/agents/toolbox/runs/{run['run_id']}/continue",
            data={"tools": text, "stream": "false"},
            headers={"Idempotency-Key": f"key {text}"},
        )
        assert (response.status_code, response.json()["detail"]) == (409, "run is already continued")


async def test_a_run_is_looked_up_once_to_continue_it(server: Server) -> None:
    run = await server.create([DELETE, DELETE])
    with statements() as seen:
        kept = await server.continued(run, [confirmed(run["tools"][0])])
    assert kept["status"] == "PAUSED"
    assert len([text for text in seen if "FROM runs" in text and "runs.run_id = " in text]) == 1
