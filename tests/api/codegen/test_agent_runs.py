"""Runs made, read and resumed through Codegen's API."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import httpx

from tests.support.caller import CODEGEN, confirmed, refusal
from tests.support.server import Server, served
from tests.support.serving import serving
from tests.support.toolbox import JsonObject, plan

DELETE = ("delete_file", {"path": "/a"})
SHELL = ("run_shell", {"command": "ls"})
ALL_KEYS = {
    "id",
    "organization_id",
    "status",
    "created_at",
    "web_url",
    "result",
    "summary",
    "source_type",
    "github_pull_requests",
    "metadata",
}
NOT_FOUND = {"message": "Agent run not found.", "status_code": 404}


async def test_a_new_run_is_answered_at_once_with_all_ten_keys(server: Server) -> None:
    response = await server.post(CODEGEN, {"prompt": "Tidy up\nplease"})
    body = response.json()
    assert (response.status_code, set(body)) == (200, ALL_KEYS)
    assert (body["status"], body["organization_id"], body["source_type"]) == ("ACTIVE", 1, "API")
    assert (body["result"], body["metadata"], body["github_pull_requests"]) == (None, None, [])
    assert body["summary"] == "Tidy up"
    assert body["web_url"].startswith("http")
    assert datetime.fromisoformat(body["created_at"]) == server.clock.now()


async def test_a_run_goes_from_active_over_paused_to_complete(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    assert (set(paused), paused["status"]) == (ALL_KEYS, "PAUSED")
    response = await server.resume(paused["id"], "leave it")
    assert (response.status_code, set(response.json()), response.json()["status"]) == (200, ALL_KEYS, "ACTIVE")
    done = await server.read_by_codegen(paused["id"])
    assert (set(done), done["status"], done["id"]) == (ALL_KEYS, "COMPLETE", paused["id"])
    assert done["created_at"] == paused["created_at"]


async def test_a_failed_run_is_an_error_with_its_message(server: Server) -> None:
    failed = await server.create_by_codegen("[[[")
    # Everybody is an administrator here, and is shown where the run failed.
    assert (failed["status"], set(failed)) == ("ERROR", {*ALL_KEYS, "traceback"})
    assert isinstance(failed["result"], str)


async def test_an_empty_prompt_is_a_prompt(server: Server) -> None:
    for prompt in ("", "   \n "):
        done = await server.create_by_codegen(prompt)
        assert (done["status"], done["summary"]) == ("COMPLETE", None)


async def test_metadata_is_kept_and_given_back(server: Server) -> None:
    metadata = {"team": "ü", "n": [1, 2.5, None, True, {"deep": {}}], "": "", "big": 2**80}
    made = await server.create_by_codegen(plan([DELETE]), metadata=metadata)
    assert made["metadata"] == metadata
    response = await server.resume(made["id"], "no", metadata={"other": 1})
    assert response.json()["metadata"] == metadata


async def test_keys_that_are_not_known_and_nulls_are_ignored(server: Server) -> None:
    response = await server.client.post(
        f"{CODEGEN}?page=1&size=50&prompt=x",
        json={
            "prompt": plan([DELETE]),
            "images": None,
            "metadata": None,
            "repo_id": None,
            "model": None,
            "agent_type": None,
            "webhooks": None,
            "id": 77,
            "status": "COMPLETE",
        },
    )
    made = response.json()
    assert (response.status_code, made["status"]) == (200, "ACTIVE")
    await server.settled_by_codegen(made["id"])
    response = await server.resume(made["id"], "no", images=None, model=None, webhooks=None, tools=None, user=5)
    assert response.status_code == 200
    response = await server.get(f"{CODEGEN}/{made['id']}?page=1&size=50")
    assert response.json()["status"] == "COMPLETE"


async def test_a_long_first_line_is_cut_in_the_summary(server: Server) -> None:
    summary = (await server.create_by_codegen("\n" + "word " * 40))["summary"]
    assert len(summary) <= 80
    assert summary.endswith("…")


async def test_a_huge_prompt_is_refused_in_the_shape_of_the_api(tmp_path: Path) -> None:
    async with served(tmp_path, max_message_chars=1000) as server:
        paused = await server.create_by_codegen(plan([DELETE]))
        expected = {"message": "prompt is longer than 1000 characters", "status_code": 400}
        async with server.nothing_changes():
            for path, body in (
                (CODEGEN, {"prompt": "x" * 1001}),
                (f"{CODEGEN}/resume", {"prompt": "x" * 1001, "agent_run_id": paused["id"]}),
            ):
                response = await server.post(path, body)
                assert (response.status_code, response.json()) == (400, expected)


async def test_a_huge_body_is_refused_in_the_shape_of_the_api(tmp_path: Path) -> None:
    async with served(tmp_path, max_body_bytes=2000) as server:
        response = await server.post(CODEGEN, {"prompt": "x" * 3000})
        assert response.status_code == 413
        assert response.json() == {"message": "Request body is larger than 2000 bytes", "status_code": 413}


async def test_another_organization_is_forbidden(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    async with server.nothing_changes():
        for organization in ("2", "0", "-1", "9" * 40):
            base = f"/v1/organizations/{organization}/agent/run"
            for response in (
                await server.post(base, {"prompt": "x"}),
                await server.get(f"{base}/{paused['id']}"),
                await server.post(f"{base}/resume", {"prompt": "x", "agent_run_id": paused["id"]}),
            ):
                assert refusal(response, 403) == "You do not have access to this organization."


async def test_a_run_that_is_not_there_is_not_found(server: Server) -> None:
    for run_id in (999, 0, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**40, -(2**63), -(2**63) - 1, -(10**40)):
        for response in (
            await server.get(f"{CODEGEN}/{run_id}"),
            await server.post(f"{CODEGEN}/resume", {"agent_run_id": run_id, "prompt": "x"}),
        ):
            assert (response.status_code, response.json()) == (404, NOT_FOUND)


async def test_a_run_that_is_not_paused_is_a_conflict_that_names_the_winner(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    await server.resume(paused["id"], "first")
    async with server.nothing_changes():
        response = await server.resume(paused["id"], "second")
        assert response.status_code == 409
        body = response.json()
        assert (body["message"], body["status_code"]) == ("run is already continued", 409)
        assert (body["status"], body["continued_via"], body["decision"]) == ("COMPLETED", "codegen", "rejected")


def _missing(*keys: str) -> list[JsonObject]:
    return [{"type": "missing", "loc": ["body", key], "msg": "Field required"} for key in keys]


UNFIT_BODIES: list[tuple[str, object, list[JsonObject]]] = [
    ("", {}, _missing("prompt")),
    ("/resume", {}, _missing("agent_run_id", "prompt")),
    ("", {"prompt": None}, [{"type": "string_type", "loc": ["body", "prompt"]}]),
    ("", {"prompt": 5}, [{"type": "string_type", "loc": ["body", "prompt"]}]),
    ("", {"prompt": "x", "metadata": [1]}, [{"type": "dict_type", "loc": ["body", "metadata"]}]),
    ("", {"prompt": "x", "images": "data:"}, [{"type": "list_type", "loc": ["body", "images"]}]),
    ("", {"prompt": "x", "images": [5]}, [{"type": "string_type", "loc": ["body", "images", 0]}]),
    (
        "/resume",
        {"prompt": "x", "agent_run_id": "many"},
        [{"type": "int_parsing", "loc": ["body", "agent_run_id"]}],
    ),
    (
        "/resume",
        {"prompt": "x", "agent_run_id": 1.5},
        [{"type": "int_from_float", "loc": ["body", "agent_run_id"]}],
    ),
    ("/resume", {"prompt": "x", "agent_run_id": None}, [{"type": "int_type", "loc": ["body", "agent_run_id"]}]),
    ("/resume", {"prompt": "x", "agent_run_id": [1]}, [{"type": "int_type", "loc": ["body", "agent_run_id"]}]),
    # No number of a run, least of all 1.
    *(
        (path, {"prompt": "x", "agent_run_id": True}, [{"type": "int_type", "loc": ["body", "agent_run_id"]}])
        for path in ("/resume", "/pause", "/ban", "/unban", "/remove-from-pr")
    ),
    ("", ["prompt"], [{"loc": ["body"]}]),
    ("", "prompt", [{"loc": ["body"]}]),
]


async def test_a_body_that_does_not_fit_is_a_422_that_names_the_place(server: Server) -> None:
    for path, body, errors in UNFIT_BODIES:
        response = await server.post(f"{CODEGEN}{path}", body)
        assert response.status_code == 422
        found = response.json()["detail"]
        assert [{key: item[key] for key in errors[0]} for item in found] == errors
    assert (await server.dump())["runs"] == []


NO_OBJECTS = [
    b"",
    b"{",
    b"null",
    b"prompt=x",
    b'{"prompt": NaN, "agent_run_id": NaN}',
    b'{"prompt": Infinity, "agent_run_id": -Infinity}',
    b'{"prompt": "\\ud800", "agent_run_id": 1}',
    b'{"prompt": "\xff", "agent_run_id": 1}',
    b'{"agent_run_id": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"prompt": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    b"\xff\xfe\x00",
    b'{"prompt": "x", "agent_run_id": 1, "metadata": {"\\udc00": 1}}',
    b'{"prompt": "x", "agent_run_id": 1, "metadata": {"a": NaN}}',
]


async def test_bytes_that_are_no_such_object_leave_everything_alone(server: Server) -> None:
    await server.create_by_codegen(plan([DELETE]))
    headers = {"content-type": "application/json"}
    async with server.nothing_changes():
        for content in NO_OBJECTS:
            for path in ("", "/resume"):
                response = await server.client.post(f"{CODEGEN}{path}", content=content, headers=headers)
                assert response.status_code in {400, 422}, (content[:30], response.text)
                body = response.json()
                assert "detail" in body if response.status_code == 422 else body["status_code"] == 400


async def test_a_body_that_is_not_called_json_is_a_422(server: Server) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", None):
        headers = {} if content_type is None else {"content-type": content_type}
        for content in (b"{}", b"\xff\xfe", b"prompt=x"):
            response = await server.client.post(CODEGEN, content=content, headers=headers)
            assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["body"])
    assert (await server.dump())["runs"] == []


async def test_odd_metadata_is_given_back_as_it_came(server: Server) -> None:
    for metadata in ({"a": 1e308, "b": -0.0}, {}, {"a": "x" * 100_000}):
        made = await server.create_by_codegen("x", metadata=metadata)
        assert (made["status"], made["metadata"]) == ("COMPLETE", metadata)


async def test_a_run_id_that_is_no_number_is_a_422(server: Server) -> None:
    for path in ("/nope", "/1.5", "/resume", "/ 1x"):
        response = await server.get(f"{CODEGEN}{path}")
        assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["path", "agent_run_id"])


async def test_a_prompt_answers_the_open_question_and_declines_everything_else(server: Server) -> None:
    turn = [("ask", {"question": "which one?"}), DELETE, ("send_email", {"subject": "Hi"}), SHELL]
    paused = await server.create_by_codegen(turn)
    assert paused["status"] == "PAUSED"
    await server.resume(paused["id"], "the second")
    done = await server.read_by_codegen(paused["id"])
    assert (done["status"], server.executed) == ("COMPLETE", [])
    assert done["result"] == (
        "Done. ask: the second. delete_file: the second. send_email: the second. run_shell: the second. "
        "The user said ['the second']."
    )
    run = await server.read({"run_id": done["web_url"].rpartition("/")[2]})
    results = [(tool["result"], tool["confirmed"]) for tool in run["tools"]]
    assert results[:2] == [("the second", None), (None, False)]


async def test_an_answer_given_before_the_prompt_stands(server: Server) -> None:
    run = await server.create([DELETE, ("delete_file", {"path": "/b"})])
    await server.continued(run, [confirmed(run["tools"][0])])
    key = await server.key_of(run)
    await server.resume(key, "only that")
    assert server.executed == ["delete_file(/a)"]
    assert "delete_file: only that." in (await server.read_by_codegen(key))["result"]


async def test_an_empty_prompt_declines_with_the_standard_words(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    await server.resume(paused["id"], "")
    done = await server.read_by_codegen(paused["id"])
    assert done["status"] == "COMPLETE"
    assert "delete_file: Function call was rejected by the user." in done["result"]


async def test_a_run_is_resumed_as_often_as_it_pauses(server: Server) -> None:
    ask = ("ask", {"question": "and now?"})
    paused = await server.create_by_codegen(plan([ask], [ask], [ask]))
    for words in ("one", "two", "three"):
        assert (await server.read_by_codegen(paused["id"]))["status"] == "PAUSED"
        assert (await server.resume(paused["id"], words)).status_code == 200
    done = await server.read_by_codegen(paused["id"])
    assert done["status"] == "COMPLETE"


async def test_an_administrators_decision_cannot_be_taken_by_a_prompt(server: Server) -> None:
    paused = await server.create_by_codegen(plan([("deploy", {"env": "prod"})]))
    before = await server.lasting()
    response = await server.resume(paused["id"], "just do it")
    assert response.status_code == 403
    assert response.json() == {
        "message": "This run requires admin approval before it can be continued",
        "status_code": 403,
    }
    assert await server.lasting() == before


async def test_codegens_runs_go_to_the_default_agent_of_the_settings(tmp_path: Path) -> None:
    async with served(tmp_path, default_agent="other") as server:
        made = await server.create_by_codegen("hello")
        assert "/agents/other/runs/" in made["web_url"]


async def test_a_server_without_agents_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        response: httpx.Response = await client.post(CODEGEN, json={"prompt": "x"})
        assert response.status_code == 404
        assert response.json() == {
            "message": "No repos found in the organization. Please add some repos and try again.",
            "status_code": 404,
            "detail": "No agents are served here. Start the server with --agents.",
        }


async def test_limits_have_their_own_words(tmp_path: Path) -> None:
    turns = [[("note", {"text": str(number)})] for number in range(5)]
    for folder in ("requests", "tokens"):
        (tmp_path / folder).mkdir()
    async with served(tmp_path / "requests", request_limit=3) as server:
        stopped = await server.create_by_codegen(plan(*turns))
        assert (stopped["status"], set(stopped)) == ("MAX_ITERATIONS_REACHED", ALL_KEYS)
        assert stopped["result"] == "The run reached its limit of 3 model requests"
        assert len(server.executed) == 3
    async with served(tmp_path / "tokens", total_tokens_limit=30) as server:
        stopped = await server.create_by_codegen(plan(*turns))
        assert stopped["status"] == "OUT_OF_TOKENS"
        assert stopped["result"] == "The run used up its limit of 30 tokens"
