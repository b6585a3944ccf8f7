"""Resumes with a model, with pictures, and with decisions on single calls."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.support.caller import CODEGEN, confirmed, filled_in, rejected
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan

DELETE = ("delete_file", {"path": "/a"})
DELETE_B = ("delete_file", {"path": "/b"})
ASK = ("ask", {"question": "which one?"})
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 10).decode()


async def open_calls(server: Server, run_key: int) -> list[JsonObject]:
    """Return the calls that the newest entry of the run's log says are waited for, as ``tools`` has them."""
    response = await server.get(f"{CODEGEN}/{run_key}/logs?reverse=true&limit=1")
    found: list[JsonObject] = response.json()["logs"][0]["observation"]["requirements"]
    return found


async def test_a_resume_is_answered_with_the_run_as_it_goes_on(server: Server) -> None:
    for _ in range(5):
        paused = await server.create_by_codegen(plan([DELETE]))
        assert paused["result"] == 'Waiting for a confirmation of delete_file(path="/a").'
        body = (await server.resume(paused["id"], "no")).json()
        assert (body["status"], body["result"], body["id"]) == ("ACTIVE", None, paused["id"])


async def test_another_model_runs_the_rest(tmp_path: Path) -> None:
    async with served(tmp_path, models=("test",)) as server:
        run = await server.create([DELETE], [DELETE])
        assert run["model"] == "planned-1"
        key = await server.key_of(run)
        assert (await server.resume(key, "no", model="test")).status_code == 200
        done = await server.read(run)
        assert (done["status"], done["model"], done["model_provider"]) == ("COMPLETED", "test", "test")
        # The plan had a second turn, which the other model knows nothing of.
        assert len(done["tools"]) == 1


async def test_without_a_model_the_one_before_goes_on(server: Server) -> None:
    run = await server.create([DELETE], [DELETE_B])
    await server.resume(await server.key_of(run), "no")
    again = await server.read(run)
    assert (again["status"], again["model"], len(again["tools"])) == ("PAUSED", "planned-1", 2)


async def test_the_tools_that_a_log_names_decide_their_calls(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE, DELETE_B]))
    first, second = await open_calls(server, paused["id"])
    response = await server.resume(paused["id"], "", tools=[confirmed(first), rejected(second, "keep it")])
    assert (response.status_code, response.json()["status"]) == (200, "ACTIVE")
    done = await server.read_by_codegen(paused["id"])
    assert server.executed == ["delete_file(/a)"]
    assert done["result"] == "Done. delete_file: did delete_file(/a). delete_file: keep it."


@pytest.mark.parametrize("prompt", ["", "  \n"])
async def test_without_words_what_the_tools_leave_open_stays_open(server: Server, prompt: str) -> None:
    run = await server.create([DELETE, DELETE_B])
    key = await server.key_of(run)
    first, second = run["tools"]
    response = await server.client.post(
        f"{CODEGEN}/resume", json={"agent_run_id": key, "prompt": prompt, "tools": [confirmed(first)]}
    )
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "PAUSED")
    assert body["result"] == 'Waiting for a confirmation of delete_file(path="/b").'
    assert server.executed == []
    # The rest may come through the other API.
    done = await server.continued(run, [confirmed(second)])
    # Two calls of one answer run beside one another.
    assert (done["status"], sorted(server.executed)) == ("COMPLETED", ["delete_file(/a)", "delete_file(/b)"])


async def test_words_decide_what_the_tools_leave_open_and_reach_the_model(server: Server) -> None:
    run = await server.create([DELETE, DELETE_B, ASK])
    key = await server.key_of(run)
    assert (await server.resume(key, "the first", tools=[confirmed(run["tools"][0])])).status_code == 200
    done = await server.read(run)
    assert server.executed == ["delete_file(/a)"]
    assert done["content"] == (
        "Done. delete_file: did delete_file(/a). delete_file: the first. ask: the first. The user said ['the first']."
    )
    assert [tool["confirmed"] for tool in done["tools"][:2]] == [True, False]
    late = (await server.resume(key, "again")).json()
    assert (late["status_code"], late["decision"]) == (409, "mixed")


async def test_words_beside_tools_that_decide_everything_are_the_users_words(server: Server) -> None:
    run = await server.create([DELETE])
    await server.resume(await server.key_of(run), "and be quick", tools=[confirmed(run["tools"][0])])
    done = await server.read(run)
    assert server.executed == ["delete_file(/a)"]
    assert done["content"].endswith("The user said ['and be quick'].")


async def test_words_decide_all_where_the_tools_only_repeat_what_was_shown(server: Server) -> None:
    run = await server.create([DELETE])
    assert (await server.resume(await server.key_of(run), "no", tools=run["tools"])).status_code == 200
    assert "delete_file: no." in (await server.read(run))["content"]
    assert server.executed == []


async def test_no_words_and_no_decisions_are_refused(server: Server) -> None:
    run = await server.create([DELETE])
    key = await server.key_of(run)
    async with server.nothing_changes():
        repeated: list[list[JsonObject]] = [[], run["tools"]]
        for tools in repeated:
            response = await server.resume(key, "", tools=tools)
            assert response.status_code == 400
            assert response.json()["message"].startswith("Run has unresolved requirements")


async def test_forms_and_results_come_as_tools_too(server: Server) -> None:
    run = await server.create([("book", {"day": "Monday"}), ("run_shell", {"command": "ls"})])
    book, shell = run["tools"]
    tools = [filled_in(book, seats=4, quiet=True), {**shell, "result": "a.txt"}]
    assert (await server.resume(await server.key_of(run), "", tools=tools)).status_code == 200
    assert server.executed == ["book(Monday, 4, True)"]
    assert "run_shell: a.txt." in (await server.read(run))["content"]


async def test_tools_that_do_not_fit_are_refused_whatever_the_words(server: Server) -> None:
    cases: list[tuple[JsonObject, int]] = [
        ({"tool_call_id": "unknown"}, 400),
        ({"tool_name": "deploy"}, 400),
        ({"tool_args": {"path": "/etc"}}, 400),
        ({"result": "done"}, 400),
        ({"tool_call_id": ""}, 422),
        ({"tool_call_id": 5}, 422),
        ({"confirmed": "yes"}, 422),
        ({"tool_args": [1]}, 422),
    ]
    for changes, status in cases:
        for prompt in ("", "do it"):
            run = await server.create([DELETE])
            key = await server.key_of(run)
            async with server.nothing_changes():
                response = await server.resume(key, prompt, tools=[{**confirmed(run["tools"][0]), **changes}])
            assert response.status_code == status, response.text
            assert ("detail" in response.json()) == (status == 422)


async def test_tools_of_an_older_pause_are_a_conflict(server: Server) -> None:
    run = await server.create([DELETE], [DELETE_B])
    key = await server.key_of(run)
    await server.resume(key, "", tools=[confirmed(run["tools"][0])])
    async with server.nothing_changes():
        response = await server.resume(key, "yes", tools=[confirmed(run["tools"][0])])
    assert (response.status_code, response.json()["message"]) == (409, "run is already continued")
    assert server.executed == ["delete_file(/a)"]


async def test_tools_cannot_decide_for_an_administrator(server: Server) -> None:
    run = await server.create([("deploy", {"env": "prod"}), DELETE])
    key = await server.key_of(run)
    async with server.nothing_changes():
        response = await server.resume(key, "", tools=[confirmed(tool) for tool in run["tools"]])
    assert (response.status_code, response.json()) == (
        403,
        {"message": "This run requires admin approval before it can be continued", "status_code": 403},
    )


async def test_what_an_administrator_decided_needs_only_a_resume(server: Server) -> None:
    run = await server.create([("deploy", {"env": "prod"})])
    approval = (await server.get("/approvals")).json()["data"][0]
    await server.post(f"/approvals/{approval['id']}/resolve", {"status": "approved"})
    assert (await server.resume(await server.key_of(run), "", tools=[])).status_code == 200
    done = await server.read(run)
    assert (done["status"], server.executed) == ("COMPLETED", ["deploy(prod)"])


async def test_pictures_and_a_model_of_a_partial_resume_wait_for_the_rest(server: Server) -> None:
    run = await server.create([DELETE, DELETE_B])
    key = await server.key_of(run)
    picture = [f"data:image/png;base64,{PICTURE}"]
    tools = [confirmed(run["tools"][0])]
    body = {"agent_run_id": key, "prompt": "", "tools": tools, "images": picture, "model": "function:planned-1"}
    response = await server.post(f"{CODEGEN}/resume", body)
    assert (response.status_code, response.json()["status"]) == (200, "PAUSED")
    done = await server.continued(run, [rejected(run["tools"][1])])
    assert done["content"].endswith("The user said ['', 'image/png of 18 bytes'].")


async def test_a_repeated_resume_with_tools_is_answered_as_before(server: Server) -> None:
    run = await server.create([DELETE])
    key = await server.key_of(run)
    body = {"agent_run_id": key, "prompt": "go", "tools": [confirmed(run["tools"][0])]}
    headers = {"Idempotency-Key": "k"}
    first = await server.client.post(f"{CODEGEN}/resume", json=body, headers=headers)
    await server.settled_by_codegen(key, 5)
    again = await server.client.post(f"{CODEGEN}/resume", json=body, headers=headers)
    assert (again.status_code, again.json()) == (200, first.json())
    other = await server.client.post(f"{CODEGEN}/resume", json={**body, "tools": None}, headers=headers)
    assert (other.status_code, other.json()["status_code"]) == (422, 422)
    assert server.executed == ["delete_file(/a)"]


async def test_a_run_changes_hands_between_the_apis(server: Server) -> None:
    run = await server.create([DELETE], [DELETE_B], [ASK], user_id="alice")
    key = await server.key_of(run)
    await server.resume(key, "", tools=[confirmed(run["tools"][0])])
    second = await server.read(run)
    await server.continued(second, [confirmed(second["tools"][1])], user_id="alice")
    paused = await server.read_by_codegen(key)
    assert (paused["status"], paused["result"]) == ("PAUSED", "which one?")
    await server.resume(key, "that one")
    done = await server.read_by_codegen(key)
    assert (done["status"], done["result"]) == ("COMPLETE", (await server.read(run))["content"])
    assert server.executed == ["delete_file(/a)", "delete_file(/b)"]
