"""Sessions: rows that are listed by the page, changed in part, and deleted with all that belongs to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.support.caller import body_of, confirming
from tests.support.databases import new_run
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.statements import statements
from tests.support.toolbox import JsonObject, plan
from unpause.domain.runs import RunStatus

DELETE = plan([("delete_file", {"path": "a"})])
PAGE_KEYS = {"page", "limit", "total_pages", "total_count", "search_time_ms"}


async def listed(server: Server, **query: object) -> JsonObject:
    """Return a page of sessions."""
    params = {name: str(value) for name, value in query.items()}
    return body_of(await server.client.get("/sessions", params=params))


async def ids(server: Server, **query: object) -> list[str]:
    """Return the ids on a page of sessions."""
    return [item["session_id"] for item in (await listed(server, **query))["data"]]


async def run_ids(server: Server, path: str = "runs", **query: int | list[str]) -> list[str]:
    """Return the ids of a session's runs."""
    response = await server.client.get(f"/sessions/s/{path}", params=query)
    assert response.status_code == 200, response.text
    return [run["run_id"] for run in response.json()]


async def test_sessions_are_listed_newest_first_page_by_page(server: Server) -> None:
    for name in "abcde":
        await server.create("hello", session_id=name)
        server.clock.move(1)
    pages = [await listed(server, type="agent", limit=2, page=page) for page in (1, 2, 3, 4)]
    assert [[item["session_id"] for item in page["data"]] for page in pages] == [["e", "d"], ["c", "b"], ["a"], []]
    for number, page in enumerate(pages, 1):
        assert page["meta"].keys() == PAGE_KEYS
        assert [page["meta"][key] for key in ("page", "limit", "total_pages", "total_count")] == [number, 2, 3, 5]


async def test_a_listed_session_has_the_keys_that_clients_read(server: Server) -> None:
    await server.create("first words\nand more", session_id="s", user_id="ada")
    (item,) = (await listed(server))["data"]
    assert item == {
        "session_id": "s",
        "session_name": "first words",
        "session_state": {},
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        "session_type": "agent",
        "user_id": "ada",
        "agent_id": "toolbox",
    }
    body_of(await server.patch("/sessions/s", {"metadata": {"k": 1}}))
    (item,) = (await listed(server))["data"]
    assert item["metadata"] == {"k": 1}


async def test_lists_are_sorted_and_filtered_as_asked(server: Server) -> None:
    for name, agent, user in (("a", "toolbox", "ada"), ("b", "other", "bob"), ("c", "toolbox", "bob")):
        await server.create("hello", agent=agent, session_id=name, user_id=user)
        server.clock.move(1)
    await server.create("hello again", session_id="a")
    server.clock.move(1)
    body_of(await server.post("/sessions/b/rename", {"session_name": "100% Own_Name"}))
    assert await ids(server, sort_order="asc") == ["a", "b", "c"]
    assert await ids(server, sort_by="updated_at") == ["b", "a", "c"]
    assert await ids(server, component_id="toolbox") == ["c", "a"]
    assert await ids(server, user_id="bob") == ["c", "b"]
    assert await ids(server, user_id="bob", component_id="toolbox") == ["c"]
    assert await ids(server, session_name="own_name") == ["b"]
    assert await ids(server, session_name="100%") == ["b"]
    assert await ids(server, session_name="1%e") == []


async def test_a_page_that_cannot_be_is_refused(server: Server) -> None:
    cases: list[dict[str, str]] = [{"limit": "0"}, {"limit": "1001"}, {"page": "0"}, {"sort_order": "up"}]
    for query in cases:
        assert (await server.client.get("/sessions", params=query)).status_code == 422


async def test_another_database_is_not_found(server: Server) -> None:
    for path in ("/sessions", "/sessions/x/runs"):
        response = await server.client.get(path, params={"db_id": "nope"})
        assert (response.status_code, response.json()) == (404, {"detail": "404: No database found with id 'nope'"})
    assert (await server.client.get("/sessions", params={"db_id": "unpause"})).status_code == 200


async def test_the_database_pages_and_reads_no_more_than_the_page(server: Server) -> None:
    for name in "abc":
        await server.create("hello", session_id=name)
    for number in range(3):
        await server.create(f"message {number}", session_id="c")
    with statements() as seen:
        await listed(server, limit=2)
        sessions = [text for text in seen if "FROM sessions" in text and "count(" not in text]
        seen.clear()
        response = await server.client.get("/sessions/c/runs", params={"limit": 2, "page": 2})
        runs = [text for text in seen if "FROM runs" in text]
        messages = [text for text in seen if "FROM messages" in text]
    assert len(sessions) == 1
    assert "LIMIT" in sessions[0]
    assert len(runs) == 1
    assert "LIMIT" in runs[0]
    assert len(messages) == len(response.json()) == 2


async def test_an_empty_session_is_made_as_asked(server: Server) -> None:
    expected = {
        "session_id": "s",
        "session_name": "mine",
        "session_state": {"n": 1},
        "metadata": {"k": "v"},
        "user_id": "ada",
        "agent_id": "toolbox",
    }
    made = body_of(await server.client.post("/sessions", params={"type": "agent"}, json=expected), 201)
    assert {key: made[key] for key in expected} == expected
    assert (made["agent_session_id"], made["chat_history"]) == ("s", [])
    again = await server.post("/sessions", expected)
    assert (again.status_code, again.json()) == (409, {"detail": "Session s exists already"})
    assert "agent_id" not in body_of(await server.post("/sessions", {}), 201)
    assert (await server.post("/sessions", {"session_id": "x" * 256})).status_code == 422


async def test_a_made_session_takes_runs_and_gives_them_its_state(server: Server) -> None:
    body_of(await server.client.post("/sessions", json={"session_id": "s", "session_state": {"n": 1}}), 201)
    run = await server.create("hello", session_id="s")
    assert run["session_state"] == {"n": 1}
    later = await server.create("hello", session_id="s", session_state='{"n": 2}')
    assert later["session_state"] == {"n": 2}
    assert body_of(await server.get("/sessions/s"))["session_state"] == {"n": 2}


async def test_an_empty_session_id_means_a_new_session_each_time(server: Server) -> None:
    first, second = [await server.create("hello", session_id="") for _ in range(2)]
    assert first["session_id"] != second["session_id"]
    assert len(await ids(server)) == 2


async def test_a_session_shows_its_chat_without_the_tools_messages(server: Server) -> None:
    run = await server.create(DELETE, session_id="s", user_id="ada")
    await server.continued(run, confirming(run))
    session = body_of(await server.client.get("/sessions/s", params={"type": "agent"}))
    assert [message["role"] for message in session["chat_history"]] == ["user", "assistant", "assistant"]
    assert session["chat_history"][-1]["content"] == "Done. delete_file: did delete_file(a)."
    assert (session["user_id"], session["agent_id"]) == ("ada", "toolbox")
    assert session["agent_data"]["model"] == {"id": "planned-1", "name": "planned-1", "provider": "function"}


async def test_what_is_not_there_is_not_found_in_the_words_of_the_original(server: Server) -> None:
    run = await server.create("hello", session_id="s")
    await server.create("hello", session_id="t")
    paths = {
        "/sessions/nope": "Agent Session with id 'nope' not found",
        "/sessions/nope/runs": "Session with ID nope not found",
        f"/sessions/nope/runs/{run['run_id']}": "Session with ID nope not found",
        "/sessions/s/runs/nope": "Run with ID nope not found in session s",
        f"/sessions/t/runs/{run['run_id']}": f"Run with ID {run['run_id']} not found in session t",
    }
    for path, detail in paths.items():
        response = await server.get(path)
        assert (response.status_code, response.json()) == (404, {"detail": detail})
    for change in (
        await server.patch("/sessions/nope", {"session_name": "x"}),
        await server.post("/sessions/nope/rename", {"session_name": "x"}),
    ):
        assert (change.status_code, change.json()) == (404, {"detail": "Session with id 'nope' not found"})


async def test_a_change_leaves_alone_what_it_does_not_name(server: Server) -> None:
    expected = {"session_id": "s", "session_name": "a", "session_state": {"n": 1}, "metadata": {"k": 1}}
    body_of(await server.post("/sessions", expected), 201)
    server.clock.move(60)
    changed = body_of(await server.patch("/sessions/s", {"session_state": {"n": 2}}))
    assert changed["session_name"] == "a"
    assert changed["session_state"] == {"n": 2}
    assert changed["metadata"] == {"k": 1}
    assert changed["updated_at"] == "2026-01-01T00:01:00Z"
    renamed = body_of(await server.post("/sessions/s/rename", {"session_name": "b"}))
    assert (renamed["session_name"], renamed["session_state"]) == ("b", {"n": 2})
    async with server.nothing_changes():
        assert (await server.post("/sessions/s/rename", {"session_name": ""})).status_code == 422
        assert (await server.patch("/sessions/s", {"session_state": [1]})).status_code == 422


async def test_a_new_run_does_not_rename_its_session(server: Server) -> None:
    await server.create("first", session_id="s")
    body_of(await server.post("/sessions/s/rename", {"session_name": "mine"}))
    await server.create("second", session_id="s")
    assert (await listed(server))["data"][0]["session_name"] == "mine"


async def test_a_sessions_runs_come_oldest_first_page_by_page(server: Server) -> None:
    made = [(await server.create(f"message {number}", session_id="s"))["run_id"] for number in range(5)]
    pages = [
        (await server.client.get("/sessions/s/runs", params={"limit": 2, "page": page})).json() for page in (1, 2, 3, 4)
    ]
    assert [[run["run_id"] for run in page] for page in pages] == [made[:2], made[2:4], made[4:], []]
    assert [run["run_input"] for run in pages[0]] == ["message 0", "message 1"]
    assert all(value is not None for value in pages[0][0].values())
    one = body_of(await server.get(f"/sessions/s/runs/{made[0]}"))
    assert {key: value for key, value in one.items() if value is not None} == pages[0][0]


async def test_without_a_page_the_newest_runs_come_oldest_first(server: Server) -> None:
    made = [(await server.create(f"message {number}", session_id="s"))["run_id"] for number in range(5)]
    assert await run_ids(server, limit=2) == made[3:]
    assert await run_ids(server, limit=2, page=1) == made[:2]
    assert await run_ids(server) == made


def _add_101_runs(connection: Connection) -> None:
    for number in range(101):
        values = {"session_id": "s", "agent_id": "toolbox", "user_id": None, "prompt": f"message {number}"}
        new_run(connection, RunStatus.COMPLETED, **values)


async def test_without_a_page_or_a_limit_a_long_session_shows_its_end(server: Server) -> None:
    await server.application.database.write(_add_101_runs)
    runs = (await server.get("/sessions/s/runs")).json()
    assert [run["run_input"] for run in runs] == [f"message {number}" for number in range(1, 101)]


@pytest.mark.parametrize("path", ["runs", "run-previews"])
async def test_a_sessions_runs_can_be_asked_for_by_status(server: Server, path: str) -> None:
    paused = [(await server.create(DELETE, session_id="s"))["run_id"]]
    done = [(await server.create("hello", session_id="s"))["run_id"]]
    paused.append((await server.create(DELETE, session_id="s"))["run_id"])
    cancelled = await server.create(DELETE, session_id="s")
    body_of(await server.cancel(cancelled))
    done.append((await server.create("hello", session_id="s"))["run_id"])

    async def found(*status: str, **query: int) -> list[str]:
        return await run_ids(server, path, status=list(status), **query)

    assert await found("PAUSED") == paused
    assert await found("paused") == paused
    assert await found("ERROR") == await found("REGENERATED") == []
    assert await found("PAUSED", "completed") == [paused[0], done[0], paused[1], done[1]]
    assert await found("PAUSED", "COMPLETED", "REGENERATED", limit=3) == [done[0], paused[1], done[1]]
    pages = [await found("PAUSED", "COMPLETED", limit=3, page=page) for page in (1, 2, 3)]
    assert pages == [[paused[0], done[0], paused[1]], [done[1]], []]
    assert await found("PAUSED", limit=1) == paused[1:]
    assert await found("CANCELLED", "PAUSED", created_after=4_000_000_000) == []


@pytest.mark.parametrize("path", ["runs", "run-previews"])
async def test_a_status_that_there_is_not_is_refused(server: Server, path: str) -> None:
    response = await server.client.get(f"/sessions/nope/{path}", params={"status": ["PAUSED", "waiting"]})
    assert response.status_code == 400
    assert response.json() == {
        "detail": "Invalid status value(s) ['WAITING']; expected one of "
        "['CANCELLED', 'COMPLETED', 'ERROR', 'PAUSED', 'PENDING', 'REGENERATED', 'RUNNING']"
    }


async def test_a_preview_is_a_run_in_short(server: Server) -> None:
    long = "x" * 1000
    done = await server.create(long, session_id="s", user_id="ada")
    started = await server.create(DELETE, session_id="s")
    with statements() as seen:
        response = await server.client.get("/sessions/s/run-previews", params={"type": "agent", "user_id": "ada"})
    assert response.json() == [
        {
            "run_id": done["run_id"],
            "parent_run_id": "",
            "agent_id": "toolbox",
            "user_id": "ada",
            "status": "COMPLETED",
            "run_input": "x" * 280,
            "content_preview": f"Done. The user said ['{long}"[:280],
            "created_at": "2026-01-01T00:00:00Z",
        },
        {
            "run_id": started["run_id"],
            "parent_run_id": "",
            "agent_id": "toolbox",
            "status": "PAUSED",
            "run_input": DELETE,
            "content_preview": started["content"],
            "created_at": "2026-01-01T00:00:00Z",
        },
    ]
    assert not [text for text in seen if "FROM messages" in text or "FROM tool_calls" in text]


async def test_the_previews_of_a_session_that_is_not_there_are_not_found(server: Server) -> None:
    await server.create("hello", session_id="s", user_id="ada")
    for name, query in (("nope", {}), ("s", {"user_id": "bob"})):
        response = await server.client.get(f"/sessions/{name}/run-previews", params=query)
        assert (response.status_code, response.json()) == (404, {"detail": f"Session with ID {name} not found"})


async def test_an_agents_runs_of_a_session_can_be_asked_for_by_status(server: Server) -> None:
    paused = await server.create(DELETE, session_id="s")
    done = await server.create("hello", session_id="s")
    foreign = await server.create("hello", agent="other", session_id="s")

    async def runs(**query: str) -> list[str]:
        response = await server.client.get("/agents/toolbox/runs", params={"session_id": "s", **query})
        assert response.status_code == 200
        return [run["run_id"] for run in response.json()]

    assert await runs() == [paused["run_id"], done["run_id"]]
    assert await runs(status="PAUSED") == [paused["run_id"]]
    assert await runs(status="paused") == []
    assert await runs(session_id="nope") == []
    assert foreign["run_id"] not in await runs(limit="1000")


async def test_a_page_of_an_agents_runs_is_full_while_there_are_more(server: Server) -> None:
    for _ in range(3):
        await server.create("hello", agent="other", session_id="s")
    mine = [(await server.create("hello", session_id="s"))["run_id"] for _ in range(2)]
    response = await server.client.get("/agents/toolbox/runs", params={"session_id": "s", "limit": 2})
    assert [run["run_id"] for run in response.json()] == mine


async def test_a_deleted_session_takes_everything_of_its_runs_along(server: Server) -> None:
    kept = await server.create("hello", session_id="kept")
    before = await server.lasting()
    server.clock.move(1)
    finished = await server.create(DELETE, session_id="s", user_id="ada")
    await server.continued(finished, confirming(finished))
    await server.create(plan([("deploy", {"env": "prod"})]), session_id="s")
    await server.form("/agents/toolbox/runs", "key", message=DELETE, session_id="s")
    response = await server.client.delete("/sessions/s", params={"type": "agent"})
    assert (response.status_code, response.content) == (204, b"")
    # All but what was done, which nobody takes back.
    assert {**await server.lasting(), "audit": []} == before
    trail = body_of(await server.get("/audit"))["data"]
    deleted = ["session.deleted", *["run.deleted"] * 3]
    assert [entry["action"] for entry in trail] == [*deleted, "requirement.answered"]
    assert (await server.read(kept))["status"] == "COMPLETED"
    assert (await server.delete("/sessions/s")).status_code == 204


@pytest.mark.parametrize("path", ["/sessions/s", "/sessions"])
async def test_a_session_is_not_deleted_for_a_user_whose_name_cannot_be_written_down(
    tmp_path: Path, database_url: str, path: str
) -> None:
    async with served(tmp_path, database_url=database_url) as server:
        await server.create("hello", session_id="s")
        body = {"session_ids": ["s"], "session_types": ["agent"]} if path == "/sessions" else None
        async with server.nothing_changes():
            refused = await server.client.request("DELETE", path, params={"user_id": "u" * 256}, json=body)
        assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "user_id"])
        done = await server.client.request("DELETE", path, params={"user_id": "u" * 255}, json=body)
        assert done.status_code == 204
        assert body_of(await server.get("/audit"))["data"][0]["actor"] == "u" * 255


async def test_a_session_with_a_run_under_way_is_not_deleted(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates, max_running=1) as server:
        run = await server.create(plan([("hold", {"name": "door"})]), session_id="running")
        await server.post_continue(run, confirming(run), background="true")
        await gates.reached("door")
        waiting = await server.begin("hello", session_id="pending")
        for name in ("running", "pending"):
            async with server.nothing_changes():
                refused = await server.delete(f"/sessions/{name}")
            assert refused.status_code == 409
            assert refused.json() == {"detail": f"Session {name} has a run that is running: cancel it first"}
        for item in (waiting, run):
            body_of(await server.cancel(item))
        for name in ("running", "pending"):
            assert (await server.delete(f"/sessions/{name}")).status_code == 204
        assert (await server.dump())["runs"] == []
