"""What holds for both APIs alike: one run under both ids, the health routes, unknown paths, and who is listened to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import CODEGEN, confirmed
from tests.support.server import Server, served
from tests.support.toolbox import plan
from unpause.errors import DatabaseUnavailable

DELETE = ("delete_file", {"path": "/a"})


async def test_a_run_made_through_codegen_is_continued_through_agno(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]), metadata={"team": "x"})
    run_id = paused["web_url"].rpartition("/")[2]
    run = await server.read({"agent_id": "toolbox", "run_id": run_id})
    assert (run["status"], run["metadata"]) == ("PAUSED", {"team": "x"})
    done = await server.continued(run, [confirmed(run["tools"][0])], session_id=run["session_id"])
    assert (done["run_id"], done["status"]) == (run_id, "COMPLETED")
    assert server.executed == ["delete_file(/a)"]
    shown = await server.read_by_codegen(paused["id"])
    assert (shown["status"], shown["result"]) == ("COMPLETE", done["content"])


async def test_a_run_made_through_agno_is_continued_through_codegen(server: Server) -> None:
    run = await server.create([("ask", {"question": "which?"}), DELETE], user_id="alice")
    key = await server.key_of(run)
    assert (await server.read_by_codegen(key))["status"] == "PAUSED"
    response = await server.resume(key, "the first")
    assert (response.status_code, response.json()["id"]) == (200, key)
    done = await server.read(run)
    assert (done["status"], done["run_id"]) == ("COMPLETED", run["run_id"])
    assert done["content"] == (await server.read_by_codegen(key))["result"]
    assert "ask: the first." in done["content"]
    question, delete = done["tools"]
    assert (question["result"], delete["confirmed"], delete["confirmation_note"]) == (
        "the first",
        False,
        "the first",
    )


async def test_the_loser_is_told_who_won_through_the_other_api(server: Server) -> None:
    run = await server.create([DELETE], user_id="alice")
    key = await server.key_of(run)
    await server.continued(run, [confirmed(run["tools"][0])], user_id="alice")
    late = (await server.resume(key, "no")).json()
    assert (late["status_code"], late["continued_by"], late["continued_via"]) == (409, "alice", "agno")
    assert late["decision"] == "confirmed"

    second = await server.create([DELETE])
    await server.resume(await server.key_of(second), "no")
    response = await server.post_continue(second, [confirmed(second["tools"][0])])
    assert response.status_code == 409
    assert (response.json()["continued_via"], response.json()["decision"]) == ("codegen", "rejected")


async def test_an_alive_server_says_so(server: Server) -> None:
    response = await server.get("/health")
    assert (response.status_code, response.json()["status"]) == (200, "ok")
    assert response.json()["instantiated_at"].endswith("Z")


async def test_a_server_is_ready_only_with_its_schema(server: Server) -> None:
    response = await server.get("/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready"})
    await _set_revision(server, "from_the_future")
    await _write(server, "UPDATE schema_compatibility SET oldest_code = ?", "9999")
    response = await server.get("/ready")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert "from_the_future" in response.json()["reason"]
    assert int(response.headers["retry-after"]) > 0
    assert (await server.get("/health")).status_code == 200


async def test_an_unknown_path_is_a_404_in_json_and_never_a_redirect(server: Server) -> None:
    for path in (
        "/nope",
        "/agents/toolbox/nope",
        "/agents/toolbox/runs/a/b",
        "/agents/toolbox/runs/a/continue/b",
        "/agents//runs",
        "/v1/nope",
        "/v1/organizations/1/agent/runaway",
        f"{CODEGEN}/5/resume",
        "/v2/organizations/1/agent/run",
    ):
        for method in ("GET", "POST"):
            response = await server.client.request(method, path)
            assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})


async def test_a_trailing_slash_changes_nothing(server: Server) -> None:
    for path in ("/health", "/agents", "/agents/toolbox/runs?session_id=s", f"{CODEGEN}/999"):
        plain = await server.get(path)
        name, mark, query = path.partition("?")
        slashed = await server.get(f"{name}/{mark}{query}")
        assert (slashed.status_code, slashed.json()) == (plain.status_code, plain.json())


async def test_a_wrong_method_is_a_405_in_json(server: Server) -> None:
    for method, path in (
        ("DELETE", "/agents/toolbox/runs/x"),
        ("PUT", "/agents/toolbox/runs"),
        ("GET", "/agents/toolbox/runs/x/continue"),
        ("POST", "/agents/toolbox/runs/x"),
        ("POST", "/health"),
        ("GET", CODEGEN),
        ("PUT", f"{CODEGEN}/resume"),
        ("DELETE", f"{CODEGEN}/5"),
    ):
        response = await server.client.request(method, path)
        assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
        assert response.headers["allow"]
    # Of every route with this path.
    for path, methods in (
        ("/sessions", "DELETE, GET, POST"),
        ("/approvals/x", "DELETE, GET"),
        ("/tokens", "GET, POST"),
    ):
        assert (await server.client.request("OPTIONS", path)).headers["allow"] == methods


async def test_a_foreign_page_is_refused_in_the_shape_of_either_api(server: Server) -> None:
    cases: list[dict[str, str]] = [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1.evil.example"},
        {"origin": "null"},
        {"origin": "http://[::1"},
        {"origin": ""},
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:7777"},
        {"host": ""},
        {"host": "localhost@evil.example"},
        {"host": "evil.example@localhost"},
        {"host": "local\thost"},
        {"host": "localhost/evil"},
        {"host": "localhost?evil"},
        {"host": "localhost:x"},
        {"origin": "http://evil.example@localhost"},
        {"origin": "ftp://localhost"},
    ]
    for headers in cases:
        run = await server.create([DELETE])
        key = await server.key_of(run)
        async with server.nothing_changes():
            path = f"/agents/toolbox/runs/{run['run_id']}/continue"
            agno = await server.client.post(path, data={"tools": "[]"}, headers=headers)
            body = {"agent_run_id": key, "prompt": "x"}
            codegen = await server.client.post(f"{CODEGEN}/resume", json=body, headers=headers)
        assert (agno.status_code, codegen.status_code) == (403, 403)
        assert agno.json().keys() == {"detail"}
        assert codegen.json() == {"message": agno.json()["detail"], "status_code": 403}


async def test_this_machine_is_listened_to(server: Server) -> None:
    cases: list[dict[str, str]] = [
        {"origin": "http://localhost:3000"},
        {"origin": "https://127.0.0.1"},
        {"origin": "http://[::1]:80"},
        {"host": "localhost:7777"},
        {"host": "LOCALHOST"},
        {"host": "[::1]:7777"},
    ]
    for headers in cases:
        assert (await server.client.get("/health", headers=headers)).status_code == 200


async def test_a_server_that_asks_for_tokens_listens_to_everybody_and_asks(tmp_path: Path) -> None:
    foreign = {"host": "agents.example", "origin": "https://ui.example"}
    async with served(tmp_path, dev=False, host="0.0.0.0") as server:  # noqa: S104 - nothing listens in this test
        assert (await server.client.get("/health", headers=foreign)).status_code == 200
        assert (await server.client.get("/agents", headers=foreign)).status_code == 401
        assert (await server.client.get(f"{CODEGEN}/1", headers=foreign)).status_code == 401


async def test_the_link_to_a_run_begins_with_the_servers_public_address(tmp_path: Path) -> None:
    async with served(tmp_path, public_url="https://agents.example/base/") as server:
        made = await server.create_by_codegen("x")
        assert made["web_url"].startswith("https://agents.example/base/agents/toolbox/runs/")


async def _set_revision(server: Server, revision: str) -> None:
    await _write(server, "UPDATE alembic_version SET version_num = ?", revision)


async def _write(server: Server, statement: str, value: str) -> None:
    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        connection.exec_driver_sql(statement, (value,))

    await server.application.database.write(unit)


async def test_a_token_that_cannot_be_looked_up_is_503_in_the_shape_of_the_api(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = DatabaseUnavailable().message
    shapes: dict[str, dict[str, Any]] = {
        "/sessions": {"detail": words},
        "/approvals/1/nothing-here": {"detail": words},
        "/v1/users/me": {"message": words, "status_code": 503},
        "/inbox": {"detail": words, "error_code": "unavailable"},
        "/me": {"detail": words, "error_code": "unavailable"},
        "/overview": {"detail": words, "error_code": "unavailable"},
    }

    def fail(*_: object) -> None:
        raise DatabaseUnavailable

    async with served(tmp_path, tokens=True) as server:
        monkeypatch.setattr("unpause.auth.authenticator.find_token", fail)
        for path, shape in shapes.items():
            answer = await server.user("alice").get(path)
            assert (answer.status_code, answer.headers["Retry-After"], answer.json()) == (503, "1", shape), path
