"""Resumes with a model, with pictures, and with decisions on single calls."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.api.exchange import ORGANIZATION, Desk, JsonObject, at_desk, confirmed, filled_in, read_object, rejected
from tests.support.agents import plan

DELETE = ("delete_file", {"path": "/a"})
DELETE_B = ("delete_file", {"path": "/b"})
ASK = ("ask", {"question": "which one?"})
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 10).decode()


async def open_calls(desk: Desk, run_key: int) -> list[JsonObject]:
    """Return the calls that the newest entry of the run's log says are waited for, as ``tools`` has them."""
    response = await desk.client.get(f"{ORGANIZATION}/{run_key}/logs?reverse=true&limit=1")
    found: list[JsonObject] = response.json()["logs"][0]["observation"]["requirements"]
    return found


async def test_a_resume_is_answered_with_the_run_as_it_goes_on(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        for _ in range(5):
            paused = await desk.create_by_codegen(plan([DELETE]))
            assert paused["result"] == 'Waiting for a confirmation of delete_file(path="/a").'
            body = read_object(await desk.resume(paused["id"], "no"))
            assert (body["status"], body["result"], body["id"]) == ("ACTIVE", None, paused["id"])


async def test_another_model_runs_the_rest(tmp_path: Path) -> None:
    async with at_desk(tmp_path, models=("test",)) as desk:
        run = await desk.create([DELETE], [DELETE])
        assert run["model"] == "planned-1"
        key = await desk.key_of(run)
        assert (await desk.resume(key, "no", model="test")).status_code == 200
        done = await desk.get(run)
        assert (done["status"], done["model"], done["model_provider"]) == ("COMPLETED", "test", "test")
        # The plan had a second turn, which the other model knows nothing of.
        assert len(done["tools"]) == 1


async def test_without_a_model_the_one_before_goes_on(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], [DELETE_B])
        await desk.resume(await desk.key_of(run), "no")
        again = await desk.get(run)
        assert (again["status"], again["model"], len(again["tools"])) == ("PAUSED", "planned-1", 2)


async def test_the_tools_that_a_log_names_decide_their_calls(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE, DELETE_B]))
        first, second = await open_calls(desk, paused["id"])
        response = await desk.resume(paused["id"], "", tools=[confirmed(first), rejected(second, "keep it")])
        assert (response.status_code, response.json()["status"]) == (200, "ACTIVE")
        done = await desk.read(paused["id"])
        assert desk.executed == ["delete_file(/a)"]
        assert done["result"] == "Done. delete_file: did delete_file(/a). delete_file: keep it."


@pytest.mark.parametrize("prompt", ["", "  \n"])
async def test_without_words_what_the_tools_leave_open_stays_open(tmp_path: Path, prompt: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, DELETE_B])
        key = await desk.key_of(run)
        first, second = run["tools"]
        response = await desk.client.post(
            f"{ORGANIZATION}/resume", json={"agent_run_id": key, "prompt": prompt, "tools": [confirmed(first)]}
        )
        body = read_object(response)
        assert (response.status_code, body["status"]) == (200, "PAUSED")
        assert body["result"] == 'Waiting for a confirmation of delete_file(path="/b").'
        assert desk.executed == []
        # The rest may come through the other API.
        done = await desk.continued(run, [confirmed(second)])
        # Two calls of one answer run beside one another.
        assert (done["status"], sorted(desk.executed)) == ("COMPLETED", ["delete_file(/a)", "delete_file(/b)"])


async def test_words_decide_what_the_tools_leave_open_and_reach_the_model(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, DELETE_B, ASK])
        key = await desk.key_of(run)
        assert (await desk.resume(key, "the first", tools=[confirmed(run["tools"][0])])).status_code == 200
        done = await desk.get(run)
        assert desk.executed == ["delete_file(/a)"]
        assert done["content"] == (
            "Done. delete_file: did delete_file(/a). delete_file: the first. ask: the first. "
            "The user said ['the first']."
        )
        assert [tool["confirmed"] for tool in done["tools"][:2]] == [True, False]
        late = read_object(await desk.resume(key, "again"))
        assert (late["status_code"], late["decision"]) == (409, "mixed")


async def test_words_beside_tools_that_decide_everything_are_the_users_words(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        await desk.resume(await desk.key_of(run), "and be quick", tools=[confirmed(run["tools"][0])])
        done = await desk.get(run)
        assert desk.executed == ["delete_file(/a)"]
        assert done["content"].endswith("The user said ['and be quick'].")


async def test_words_decide_all_where_the_tools_only_repeat_what_was_shown(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        assert (await desk.resume(await desk.key_of(run), "no", tools=run["tools"])).status_code == 200
        assert "delete_file: no." in (await desk.get(run))["content"]
        assert desk.executed == []


async def test_no_words_and_no_decisions_are_refused(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        async with desk.nothing_changes(run):
            repeated: list[list[JsonObject]] = [[], run["tools"]]
            for tools in repeated:
                response = await desk.resume(key, "", tools=tools)
                assert response.status_code == 400
                assert response.json()["message"].startswith("Run has unresolved requirements")


async def test_forms_and_results_come_as_tools_too(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("book", {"day": "Monday"}), ("run_shell", {"command": "ls"})])
        book, shell = run["tools"]
        tools = [filled_in(book, seats=4, quiet=True), {**shell, "result": "a.txt"}]
        assert (await desk.resume(await desk.key_of(run), "", tools=tools)).status_code == 200
        assert desk.executed == ["book(Monday, 4, True)"]
        assert "run_shell: a.txt." in (await desk.get(run))["content"]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"tool_call_id": "unknown"}, 400),
        ({"tool_name": "deploy"}, 400),
        ({"tool_args": {"path": "/etc"}}, 400),
        ({"result": "done"}, 400),
        ({"tool_call_id": ""}, 422),
        ({"tool_call_id": 5}, 422),
        ({"confirmed": "yes"}, 422),
        ({"tool_args": [1]}, 422),
    ],
)
@pytest.mark.parametrize("prompt", ["", "do it"])
async def test_tools_that_do_not_fit_are_refused_whatever_the_words(
    tmp_path: Path, changes: JsonObject, status: int, prompt: str
) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        async with desk.nothing_changes(run):
            response = await desk.resume(key, prompt, tools=[{**confirmed(run["tools"][0]), **changes}])
        assert response.status_code == status, response.text
        assert ("detail" in response.json()) == (status == 422)


async def test_tools_of_an_older_pause_are_a_conflict(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], [DELETE_B])
        key = await desk.key_of(run)
        await desk.resume(key, "", tools=[confirmed(run["tools"][0])])
        async with desk.nothing_changes(run):
            response = await desk.resume(key, "yes", tools=[confirmed(run["tools"][0])])
        assert (response.status_code, response.json()["message"]) == (409, "run is already continued")
        assert desk.executed == ["delete_file(/a)"]


async def test_tools_cannot_decide_for_an_administrator(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("deploy", {"env": "prod"}), DELETE])
        key = await desk.key_of(run)
        async with desk.nothing_changes(run):
            response = await desk.resume(key, "", tools=[confirmed(tool) for tool in run["tools"]])
        assert (response.status_code, response.json()) == (
            403,
            {"message": "This run requires admin approval before it can be continued", "status_code": 403},
        )


async def test_what_an_administrator_decided_needs_only_a_resume(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("deploy", {"env": "prod"})])
        approval = (await desk.client.get("/approvals")).json()["data"][0]
        await desk.client.post(f"/approvals/{approval['id']}/resolve", json={"status": "approved"})
        assert (await desk.resume(await desk.key_of(run), "", tools=[])).status_code == 200
        done = await desk.get(run)
        assert (done["status"], desk.executed) == ("COMPLETED", ["deploy(prod)"])


async def test_pictures_and_a_model_of_a_partial_resume_wait_for_the_rest(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, DELETE_B])
        key = await desk.key_of(run)
        picture = [f"data:image/png;base64,{PICTURE}"]
        tools = [confirmed(run["tools"][0])]
        body = {"agent_run_id": key, "prompt": "", "tools": tools, "images": picture, "model": "function:planned-1"}
        response = await desk.client.post(f"{ORGANIZATION}/resume", json=body)
        assert (response.status_code, response.json()["status"]) == (200, "PAUSED")
        done = await desk.continued(run, [rejected(run["tools"][1])])
        assert done["content"].endswith("The user said ['', 'image/png of 18 bytes'].")


async def test_a_repeated_resume_with_tools_is_answered_as_before(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        body = {"agent_run_id": key, "prompt": "go", "tools": [confirmed(run["tools"][0])]}
        headers = {"Idempotency-Key": "k"}
        first = await desk.client.post(f"{ORGANIZATION}/resume", json=body, headers=headers)
        await desk.settled(key, 5)
        again = await desk.client.post(f"{ORGANIZATION}/resume", json=body, headers=headers)
        assert (again.status_code, again.json()) == (200, first.json())
        other = await desk.client.post(f"{ORGANIZATION}/resume", json={**body, "tools": None}, headers=headers)
        assert (other.status_code, other.json()["status_code"]) == (422, 422)
        assert desk.executed == ["delete_file(/a)"]


async def test_a_run_changes_hands_between_the_apis(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], [DELETE_B], [ASK], user_id="alice")
        key = await desk.key_of(run)
        await desk.resume(key, "", tools=[confirmed(run["tools"][0])])
        second = await desk.get(run)
        await desk.continued(second, [confirmed(second["tools"][1])], user_id="alice")
        paused = await desk.read(key)
        assert (paused["status"], paused["result"]) == ("PAUSED", "which one?")
        await desk.resume(key, "that one")
        done = await desk.read(key)
        assert (done["status"], done["result"]) == ("COMPLETE", (await desk.get(run))["content"])
        assert desk.executed == ["delete_file(/a)", "delete_file(/b)"]
