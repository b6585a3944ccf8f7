"""What holds for both APIs alike: one run under both ids, the health routes, unknown paths, and who is listened to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.api.exchange import ORGANIZATION, Desk, at_desk, confirmed, read_object
from tests.support.agents import plan

DELETE = ("delete_file", {"path": "/a"})


async def test_a_run_made_through_codegen_is_continued_through_agno(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]), metadata={"team": "x"})
        run_id = paused["web_url"].rpartition("/")[2]
        run = await desk.get({"agent_id": "desk", "run_id": run_id})
        assert (run["status"], run["metadata"]) == ("PAUSED", {"team": "x"})
        done = await desk.continued(run, [confirmed(run["tools"][0])], session_id=run["session_id"])
        assert (done["run_id"], done["status"]) == (run_id, "COMPLETED")
        assert desk.executed == ["delete_file(/a)"]
        shown = await desk.read(paused["id"])
        assert (shown["status"], shown["result"]) == ("COMPLETE", done["content"])


async def test_a_run_made_through_agno_is_continued_through_codegen(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("ask", {"question": "which?"}), DELETE], user_id="alice")
        key = await desk.key_of(run)
        assert (await desk.read(key))["status"] == "PAUSED"
        response = await desk.resume(key, "the first")
        assert (response.status_code, response.json()["id"]) == (200, key)
        done = await desk.get(run)
        assert (done["status"], done["run_id"]) == ("COMPLETED", run["run_id"])
        assert done["content"] == (await desk.read(key))["result"]
        assert "ask: the first." in done["content"]
        question, delete = done["tools"]
        assert (question["result"], delete["confirmed"], delete["confirmation_note"]) == (
            "the first",
            False,
            "the first",
        )


async def test_the_apis_take_turns_on_one_run(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], [("ask", {"question": "more?"})], [("delete_file", {"path": "/b"})])
        key = await desk.key_of(run)
        await desk.continued(run, [confirmed(run["tools"][0])])
        await desk.resume(key, "yes, b")
        third = await desk.get(run)
        assert third["status"] == "PAUSED"
        done = await desk.continued(third, [confirmed(third["tools"][2])])
        assert done["status"] == "COMPLETED"
        assert desk.executed == ["delete_file(/a)", "delete_file(/b)"]


async def test_the_loser_is_told_who_won_through_the_other_api(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], user_id="alice")
        key = await desk.key_of(run)
        await desk.continued(run, [confirmed(run["tools"][0])], user_id="alice")
        late = read_object(await desk.resume(key, "no"))
        assert (late["status_code"], late["continued_by"], late["continued_via"]) == (409, "alice", "agno")
        assert late["decision"] == "confirmed"

        second = await desk.create([DELETE])
        await desk.resume(await desk.key_of(second), "no")
        response = await desk.post_continue(second, [confirmed(second["tools"][0])])
        assert response.status_code == 409
        assert (response.json()["continued_via"], response.json()["decision"]) == ("codegen", "rejected")


async def test_an_alive_server_says_so(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.get("/health")
        assert (response.status_code, response.json()["status"]) == (200, "ok")
        assert response.json()["instantiated_at"].endswith("Z")


async def test_a_server_is_ready_only_with_its_schema(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.get("/ready")
        assert (response.status_code, response.json()) == (200, {"status": "ready"})
        await _set_revision(desk, "from_the_future")
        response = await desk.client.get("/ready")
        assert response.status_code == 503
        assert response.json()["status"] == "unavailable"
        assert "from_the_future" in response.json()["reason"]
        assert int(response.headers["retry-after"]) > 0
        assert (await desk.client.get("/health")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/agents/desk/nope",
        "/agents/desk/runs/a/b",
        "/agents/desk/runs/a/continue/b",
        "/agents//runs",
        "/v1/nope",
        "/v1/organizations/1/agent/runaway",
        f"{ORGANIZATION}/5/resume",
        "/v2/organizations/1/agent/run",
    ],
)
async def test_an_unknown_path_is_a_404_in_json_and_never_a_redirect(tmp_path: Path, path: str) -> None:
    async with at_desk(tmp_path) as desk:
        for method in ("GET", "POST"):
            response = await desk.client.request(method, path)
            assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", ["/health", "/agents", "/agents/desk/runs?session_id=s", f"{ORGANIZATION}/999"])
async def test_a_trailing_slash_changes_nothing(tmp_path: Path, path: str) -> None:
    async with at_desk(tmp_path) as desk:
        plain = await desk.client.get(path)
        name, mark, query = path.partition("?")
        slashed = await desk.client.get(f"{name}/{mark}{query}")
        assert (slashed.status_code, slashed.json()) == (plain.status_code, plain.json())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("DELETE", "/agents/desk/runs/x"),
        ("PUT", "/agents/desk/runs"),
        ("GET", "/agents/desk/runs/x/continue"),
        ("POST", "/agents/desk/runs/x"),
        ("POST", "/health"),
        ("GET", ORGANIZATION),
        ("PUT", f"{ORGANIZATION}/resume"),
        ("DELETE", f"{ORGANIZATION}/5"),
    ],
)
async def test_a_wrong_method_is_a_405_in_json(tmp_path: Path, method: str, path: str) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.request(method, path)
        assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
        assert response.headers["allow"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"origin": ""},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:7777"},
        {"host": ""},
        {"host": "localhost@evil.example"},
    ],
    ids=str,
)
async def test_a_foreign_page_is_refused_in_the_shape_of_either_api(tmp_path: Path, headers: dict[str, str]) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        async with desk.nothing_changes(run):
            path = f"/agents/desk/runs/{run['run_id']}/continue"
            agno = await desk.client.post(path, data={"tools": "[]"}, headers=headers)
            body = {"agent_run_id": key, "prompt": "x"}
            codegen = await desk.client.post(f"{ORGANIZATION}/resume", json=body, headers=headers)
        assert (agno.status_code, codegen.status_code) == (403, 403)
        assert agno.json().keys() == {"detail"}
        assert codegen.json() == {"message": agno.json()["detail"], "status_code": 403}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://localhost:3000"},
        {"origin": "https://127.0.0.1"},
        {"origin": "http://[::1]:80"},
        {"host": "localhost:7777"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:7777"},
    ],
    ids=str,
)
async def test_this_machine_is_listened_to(tmp_path: Path, headers: dict[str, str]) -> None:
    async with at_desk(tmp_path) as desk:
        assert (await desk.client.get("/health", headers=headers)).status_code == 200


async def test_a_server_that_asks_for_tokens_listens_to_everybody_and_asks(tmp_path: Path) -> None:
    foreign = {"host": "agents.example", "origin": "https://ui.example"}
    async with at_desk(tmp_path, dev=False, host="0.0.0.0") as desk:  # noqa: S104 - nothing listens in this test
        assert (await desk.client.get("/health", headers=foreign)).status_code == 200
        assert (await desk.client.get("/agents", headers=foreign)).status_code == 401
        assert (await desk.client.get(f"{ORGANIZATION}/1", headers=foreign)).status_code == 401


async def test_the_link_to_a_run_begins_with_the_servers_public_address(tmp_path: Path) -> None:
    async with at_desk(tmp_path, public_url="https://agents.example/base/") as desk:
        made = await desk.create_by_codegen("x")
        assert made["web_url"].startswith("https://agents.example/base/agents/desk/runs/")


async def _set_revision(desk: Desk, revision: str) -> None:
    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))

    await desk.application.database.write(unit)
