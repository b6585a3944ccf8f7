"""Runs made, read and resumed through Codegen's API."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from tests.api.exchange import ORGANIZATION, Desk, JsonObject, at_desk, confirmed, read_object
from tests.support.agents import desk_agent, plan
from tests.support.serving import serving
from unpause.bootstrap import Application

DELETE = ("delete_file", {"path": "/a"})
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


async def test_a_new_run_is_answered_at_once_with_all_ten_keys(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.post(ORGANIZATION, json={"prompt": "Tidy up\nplease"})
        body = read_object(response)
        assert (response.status_code, set(body)) == (200, ALL_KEYS)
        assert (body["status"], body["organization_id"], body["source_type"]) == ("ACTIVE", 1, "API")
        assert (body["result"], body["metadata"], body["github_pull_requests"]) == (None, None, [])
        assert body["summary"] == "Tidy up"
        assert body["web_url"].startswith("http")
        made = datetime.fromisoformat(body["created_at"])
        assert abs(datetime.now(UTC) - made) < timedelta(minutes=1)


async def test_a_run_goes_from_active_over_paused_to_complete(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]))
        assert (set(paused), paused["status"]) == (ALL_KEYS, "PAUSED")
        response = await desk.resume(paused["id"], "leave it")
        assert (response.status_code, set(response.json()), response.json()["status"]) == (200, ALL_KEYS, "ACTIVE")
        done = await desk.read(paused["id"])
        assert (set(done), done["status"], done["id"]) == (ALL_KEYS, "COMPLETE", paused["id"])
        assert done["created_at"] == paused["created_at"]


async def test_a_failed_run_is_an_error_with_its_message(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        failed = await desk.create_by_codegen("[[[")
        # Everybody is an administrator here, and is shown where the run failed.
        assert (failed["status"], set(failed)) == ("ERROR", {*ALL_KEYS, "traceback"})
        assert isinstance(failed["result"], str)


@pytest.mark.parametrize("prompt", ["", "   \n "])
async def test_an_empty_prompt_is_a_prompt(tmp_path: Path, prompt: str) -> None:
    async with at_desk(tmp_path) as desk:
        done = await desk.create_by_codegen(prompt)
        assert (done["status"], done["summary"]) == ("COMPLETE", None)


async def test_metadata_is_kept_and_given_back(tmp_path: Path) -> None:
    metadata = {"team": "ü", "n": [1, 2.5, None, True, {"deep": {}}], "": "", "big": 2**80}
    async with at_desk(tmp_path) as desk:
        made = await desk.create_by_codegen(plan([DELETE]), metadata=metadata)
        assert made["metadata"] == metadata
        response = await desk.resume(made["id"], "no", metadata={"other": 1})
        assert response.json()["metadata"] == metadata


async def test_keys_that_are_not_known_and_nulls_are_ignored(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.post(
            f"{ORGANIZATION}?page=1&size=50&prompt=x",
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
        made = read_object(response)
        assert (response.status_code, made["status"]) == (200, "ACTIVE")
        await desk.settled(made["id"])
        response = await desk.resume(made["id"], "no", images=None, model=None, webhooks=None, tools=None, user=5)
        assert response.status_code == 200
        response = await desk.client.get(f"{ORGANIZATION}/{made['id']}?page=1&size=50")
        assert response.json()["status"] == "COMPLETE"


async def test_a_long_first_line_is_cut_in_the_summary(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        summary = (await desk.create_by_codegen("\n" + "word " * 40))["summary"]
        assert len(summary) <= 80
        assert summary.endswith("…")


async def test_a_huge_prompt_is_refused_in_the_shape_of_the_api(tmp_path: Path) -> None:
    async with at_desk(tmp_path, max_message_chars=1000) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]))
        expected = {"message": "prompt is longer than 1000 characters", "status_code": 400}
        before = await desk.dump()
        for path, body in (
            (ORGANIZATION, {"prompt": "x" * 1001}),
            (f"{ORGANIZATION}/resume", {"prompt": "x" * 1001, "agent_run_id": paused["id"]}),
        ):
            response = await desk.client.post(path, json=body)
            assert (response.status_code, response.json()) == (400, expected)
        assert await desk.dump() == before


async def test_a_huge_body_is_refused_in_the_shape_of_the_api(tmp_path: Path) -> None:
    async with at_desk(tmp_path, max_body_bytes=2000) as desk:
        response = await desk.client.post(ORGANIZATION, json={"prompt": "x" * 3000})
        assert response.status_code == 413
        assert response.json() == {"message": "Request body is larger than 2000 bytes", "status_code": 413}


@pytest.mark.parametrize("organization", ["2", "0", "-1", "9" * 40])
async def test_another_organization_is_forbidden(tmp_path: Path, organization: str) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]))
        before = await desk.dump()
        base = f"/v1/organizations/{organization}/agent/run"
        for response in (
            await desk.client.post(base, json={"prompt": "x"}),
            await desk.client.get(f"{base}/{paused['id']}"),
            await desk.client.post(f"{base}/resume", json={"prompt": "x", "agent_run_id": paused["id"]}),
        ):
            assert response.status_code == 403
            assert response.json() == {"message": "You do not have access to this organization.", "status_code": 403}
        assert await desk.dump() == before


@pytest.mark.parametrize(
    "run_id", [999, 0, -1, 2**31, 2**63 - 1, 2**63, 2**64, 10**40, -(2**63), -(2**63) - 1, -(10**40)]
)
async def test_a_run_that_is_not_there_is_not_found(tmp_path: Path, run_id: int) -> None:
    async with at_desk(tmp_path) as desk:
        for response in (
            await desk.client.get(f"{ORGANIZATION}/{run_id}"),
            await desk.client.post(f"{ORGANIZATION}/resume", json={"agent_run_id": run_id, "prompt": "x"}),
        ):
            assert (response.status_code, response.json()) == (404, NOT_FOUND)


async def test_a_run_that_is_not_paused_is_a_conflict_that_names_the_winner(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]))
        await desk.resume(paused["id"], "first")
        before = await desk.dump()
        response = await desk.resume(paused["id"], "second")
        assert response.status_code == 409
        body = read_object(response)
        assert (body["message"], body["status_code"]) == ("run is already continued", 409)
        assert (body["status"], body["continued_via"], body["decision"]) == ("COMPLETED", "codegen", "rejected")
        assert await desk.dump() == before


def _missing(*keys: str) -> list[JsonObject]:
    return [{"type": "missing", "loc": ["body", key], "msg": "Field required"} for key in keys]


@pytest.mark.parametrize(
    ("path", "body", "errors"),
    [
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
        ("", ["prompt"], [{"loc": ["body"]}]),
        ("", "prompt", [{"loc": ["body"]}]),
    ],
)
async def test_a_body_that_does_not_fit_is_a_422_that_names_the_place(
    tmp_path: Path, path: str, body: object, errors: list[JsonObject]
) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.post(f"{ORGANIZATION}{path}", json=body)
        assert response.status_code == 422
        found = response.json()["detail"]
        assert [{key: item[key] for key in errors[0]} for item in found] == errors
        assert (await desk.dump())["runs"] == []


@pytest.mark.parametrize(
    "content",
    [
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
    ],
    ids=lambda content: repr(content[:30]),
)
@pytest.mark.parametrize("path", ["", "/resume"])
async def test_bytes_that_are_no_such_object_leave_everything_alone(tmp_path: Path, path: str, content: bytes) -> None:
    async with at_desk(tmp_path) as desk:
        await desk.create_by_codegen(plan([DELETE]))
        before = await desk.dump()
        headers = {"content-type": "application/json"}
        response = await desk.client.post(f"{ORGANIZATION}{path}", content=content, headers=headers)
        assert response.status_code in {400, 422}, response.text
        body = read_object(response)
        assert "detail" in body if response.status_code == 422 else body["status_code"] == 400
        assert await desk.dump() == before


@pytest.mark.parametrize("content", [b"{}", b"\xff\xfe", b"prompt=x"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", None])
async def test_a_body_that_is_not_called_json_is_a_422(
    tmp_path: Path, content: bytes, content_type: str | None
) -> None:
    async with at_desk(tmp_path) as desk:
        headers = {} if content_type is None else {"content-type": content_type}
        response = await desk.client.post(ORGANIZATION, content=content, headers=headers)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["body"]
        assert (await desk.dump())["runs"] == []


@pytest.mark.parametrize("metadata", [{"a": 1e308, "b": -0.0}, {}, {"a": "x" * 100_000}])
async def test_odd_metadata_is_given_back_as_it_came(tmp_path: Path, metadata: JsonObject) -> None:
    async with at_desk(tmp_path) as desk:
        made = await desk.create_by_codegen("x", metadata=metadata)
        assert (made["status"], made["metadata"]) == ("COMPLETE", metadata)


@pytest.mark.parametrize("path", ["/nope", "/1.5", "/resume", "/ 1x"])
async def test_a_run_id_that_is_no_number_is_a_422(tmp_path: Path, path: str) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.get(f"{ORGANIZATION}{path}")
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["path", "agent_run_id"]


async def test_open_confirmations_are_declined_and_the_model_reads_the_users_words(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE, ("delete_file", {"path": "/b"})]))
        await desk.resume(paused["id"], "not these, please")
        done = await desk.read(paused["id"])
        assert desk.executed == []
        assert done["result"] == (
            "Done. delete_file: not these, please. delete_file: not these, please. The user said ['not these, please']."
        )


async def test_an_open_question_takes_the_prompt_as_its_answer(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([("ask", {"question": "which one?"}), DELETE]))
        assert paused["status"] == "PAUSED"
        await desk.resume(paused["id"], "the second")
        done = await desk.read(paused["id"])
        assert done["status"] == "COMPLETE"
        assert "ask: the second." in done["result"]
        assert "The user said ['the second']" in done["result"]
        run = await desk.get({"agent_id": "desk", "run_id": done["web_url"].rpartition("/")[2]})
        assert [(tool["result"], tool["confirmed"]) for tool in run["tools"]] == [("the second", None), (None, False)]
        assert desk.executed == []


async def test_forms_and_external_calls_are_declined_by_a_prompt(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(
            plan([("send_email", {"subject": "Hi"}), ("run_shell", {"command": "ls"})])
        )
        await desk.resume(paused["id"], "neither")
        done = await desk.read(paused["id"])
        assert "send_email: neither. run_shell: neither." in done["result"]
        assert desk.executed == []


async def test_an_answer_given_before_the_prompt_stands(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, ("delete_file", {"path": "/b"})])
        await desk.continued(run, [confirmed(run["tools"][0])])
        key = await desk.key_of(run)
        await desk.resume(key, "only that")
        assert desk.executed == ["delete_file(/a)"]
        assert "delete_file: only that." in (await desk.read(key))["result"]


async def test_an_empty_prompt_declines_with_the_standard_words(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]))
        await desk.resume(paused["id"], "")
        done = await desk.read(paused["id"])
        assert done["status"] == "COMPLETE"
        assert "delete_file: Function call was rejected by the user." in done["result"]


async def test_a_run_is_resumed_as_often_as_it_pauses(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        ask = ("ask", {"question": "and now?"})
        paused = await desk.create_by_codegen(plan([ask], [ask], [ask]))
        for words in ("one", "two", "three"):
            assert (await desk.read(paused["id"]))["status"] == "PAUSED"
            assert (await desk.resume(paused["id"], words)).status_code == 200
        done = await desk.read(paused["id"])
        assert done["status"] == "COMPLETE"


async def test_an_administrators_decision_cannot_be_taken_by_a_prompt(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([("deploy", {"env": "prod"})]))
        before = await desk.dump()
        response = await desk.resume(paused["id"], "just do it")
        assert response.status_code == 403
        assert response.json() == {
            "message": "This run requires admin approval before it can be continued",
            "status_code": 403,
        }
        assert await desk.dump() == before


async def test_codegens_runs_go_to_the_default_agent_of_the_settings(tmp_path: Path) -> None:
    executed: list[str] = []
    agents = [desk_agent(executed, name) for name in ("first", "second")]
    seen: list[Application] = []
    async with serving(tmp_path, agents, seen=seen.append, default_agent="second") as client:
        made = await Desk(client, seen[0]).create_by_codegen("hello")
        assert "/agents/second/runs/" in made["web_url"]


async def test_a_server_without_agents_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        response: httpx.Response = await client.post(ORGANIZATION, json={"prompt": "x"})
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
    async with at_desk(tmp_path / "requests", request_limit=3) as desk:
        stopped = await desk.create_by_codegen(plan(*turns))
        assert (stopped["status"], set(stopped)) == ("MAX_ITERATIONS_REACHED", ALL_KEYS)
        assert stopped["result"] == "The run reached its limit of 3 model requests"
        assert len(desk.executed) == 3
    async with at_desk(tmp_path / "tokens", total_tokens_limit=30) as desk:
        stopped = await desk.create_by_codegen(plan(*turns))
        assert stopped["status"] == "OUT_OF_TOKENS"
        assert stopped["result"] == "The run used up its limit of 30 tokens"
