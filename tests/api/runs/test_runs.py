"""Runs of all agents and both APIs in one place: searched, read, told as a timeline, cancelled, paused, resumed."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.support.caller import CODEGEN, Caller, body_of, confirming
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan
from unpause.domain.events import EventType

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
async def people(tmp_path: Path) -> AsyncIterator[Server]:
    """Serve people with tokens, who see their own runs alone."""
    async with served(tmp_path, tokens=True) as server:
        yield server


async def listed(caller: Caller, **query: object) -> list[str]:
    """Return the ids of the runs on the first page."""
    return [run["run_id"] for run in body_of(await caller.get("/runs", **query))["data"]]


async def test_runs_of_both_apis_and_all_agents_are_listed_newest_first(server: Server) -> None:
    done = await server.create("hello")
    paused = await server.run_tools("delete_file", agent="other")
    theirs = body_of(await server.post(CODEGEN, {"prompt": "from Codegen"}))

    page = body_of(await server.get("/runs"))
    found = page["data"]
    assert found[0]["number"] == theirs["id"]
    assert [run["run_id"] for run in found[1:]] == [paused["run_id"], done["run_id"]]
    assert page["next"] is None
    waiting, ended = found[1:]
    assert (waiting["agent_id"], waiting["status"], waiting["open_requirements"]) == ("other", "PAUSED", 1)
    assert waiting["waiting_since"].endswith("Z")
    assert waiting["url"].endswith(f"/console/runs/{paused['run_id']}")
    assert (ended["status"], ended["open_requirements"], ended["waiting_since"]) == ("COMPLETED", 0, None)
    assert (ended["prompt"], ended["error"]) == ("hello", None)


async def test_filters_find_runs_by_status_agent_session_user_and_time(server: Server) -> None:
    first = await server.create("hello", session_id="one", user_id="ada")
    server.clock.move(60)
    then = server.clock.now().isoformat()
    second = await server.run_tools("delete_file", agent="other", session_id="two", user_id="bob")
    ids = {1: first["run_id"], 2: second["run_id"]}

    for query, expected in (
        ({"status": "paused"}, [2]),
        ({"status": "COMPLETED"}, [1]),
        ({"status": "ERROR"}, []),
        ({"agent_id": "other"}, [2]),
        ({"session_id": "one"}, [1]),
        ({"session_id": "none"}, []),
        ({"user_id": "bob"}, [2]),
        ({"since": then}, [2]),
        ({"until": then}, [1]),
        ({"agent_id": "other", "status": "COMPLETED"}, []),
    ):
        assert await listed(server, **query) == [ids[number] for number in expected], query
    several = await server.request("GET", "/runs", params=[("status", "paused"), ("status", "completed")])
    assert [run["run_id"] for run in body_of(several)["data"]] == [ids[2], ids[1]]


async def test_a_search_finds_a_part_of_the_prompt_the_beginning_of_an_id_and_a_number(server: Server) -> None:
    percent = await server.create("100% of It")
    other = await server.create("all of it")
    number = body_of(await server.get("/runs", search=other["run_id"]))["data"][0]["number"]

    assert await listed(server, search="OF IT") == [other["run_id"], percent["run_id"]]
    assert await listed(server, search="100%") == [percent["run_id"]]
    assert await listed(server, search="%") == [percent["run_id"]]
    assert await listed(server, search=other["run_id"][:13].upper()) == [other["run_id"]]
    assert await listed(server, search=other["run_id"]) == [other["run_id"]]
    # An id may begin with the number, too.
    assert other["run_id"] in await listed(server, search=number)
    assert await listed(server, search="of it", status="PAUSED") == []


async def test_pages_follow_one_another_without_gaps_while_runs_come(server: Server) -> None:
    ids = [(await server.create(f"run {number}"))["run_id"] for number in range(5)]
    page = body_of(await server.get("/runs", limit=2))
    await server.create("a newer one")
    found = [run["run_id"] for run in page["data"]]
    while page["next"] is not None:
        page = body_of(await server.get("/runs", limit=2, cursor=page["next"]))
        found += [run["run_id"] for run in page["data"]]
    assert found == ids[::-1]


@pytest.mark.parametrize(
    "query",
    [
        *({"since": since} for since in ("yesterday", "2026-01-01T00:00:00", "2026", "20260131", "1795792868.5", "-1")),
        *({"status": "ACTIVE"}, {"cursor": "x"}, {"limit": "201"}),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(server: Server, query: dict[str, str]) -> None:
    assert (await server.get("/runs", **query)).status_code == 422


async def test_a_year_that_no_database_has_is_refused(server: Server) -> None:
    for year in ("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00"):
        assert (await server.get("/runs", since=year)).status_code == 422


async def test_users_see_their_own_runs_and_tokens_for_an_agent_see_that_agents_runs(people: Server) -> None:
    alice, bob = people.user("alice"), people.user("bob")
    own = await alice.create("hello")
    other = await alice.create("hello", agent="other")

    assert await listed(bob) == []
    assert (await bob.get(f"/runs/{own['run_id']}")).status_code == 404
    assert (await bob.get(f"/runs/{own['run_id']}/timeline")).status_code == 404
    assert (await bob.post(f"/runs/{own['run_id']}/cancel")).status_code == 404
    narrow = await people.add_user(1, "alice", "agents:other:read")
    assert await listed(narrow) == [other["run_id"]]
    assert (await narrow.get(f"/runs/{own['run_id']}")).status_code == 404
    assert (await narrow.get(f"/runs/{other['run_id']}")).status_code == 200
    assert (await narrow.post(f"/runs/{other['run_id']}/cancel")).status_code == 403
    runner = await people.add_user(1, "alice", "agents:other:run")
    assert (await runner.post(f"/runs/{own['run_id']}/cancel")).status_code == 403
    assert await listed(people) == [other["run_id"], own["run_id"]]


async def test_a_run_is_read_with_its_requirements_segments_and_for_administrators_its_audit_trail(
    people: Server,
) -> None:
    alice = people.user("alice")
    run = await alice.run_tools("delete_file")
    await alice.answer(run, confirmation_note="Fine.")

    shown = body_of(await alice.get(f"/runs/{run['run_id']}"))
    assert (shown["status"], shown["output"] is None, shown["awaiting"]) == ("COMPLETED", False, None)
    assert [(each["status"], each["started_by"]) for each in shown["segments"]] == [
        ("PAUSED", "alice"),
        ("COMPLETED", "alice"),
    ]
    (requirement,) = shown["requirements"]
    assert requirement["tool_name"] == "delete_file"
    assert requirement["decision"] == {
        **requirement["decision"],
        "decision": "confirmed",
        "by": "alice",
        "via": "agno",
        "note": "Fine.",
        "values": None,
    }
    assert shown["audit"] is None
    (entry,) = body_of(await people.get(f"/runs/{run['run_id']}"))["audit"]
    assert (entry["action"], entry["actor"]) == ("requirement.answered", "alice")


async def test_a_timeline_tells_in_order_what_happened_and_where_the_time_went(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        run = await server.create(plan([("note", {"text": SCRIPT})], [("hold", {"name": "door"})]))
        server.clock.move(30)
        await server.post_continue(run, confirming(run), background="true")
        await gates.reached("door")
        server.clock.move(5)
        gates.open("door")
        await server.settled(run)
        timeline = body_of(await server.get(f"/runs/{run['run_id']}/timeline"))

    kinds = [(entry["kind"], entry.get("tool_name")) for entry in timeline["data"]]
    assert kinds == [
        ("message", None),
        ("model", None),
        ("tool", "note"),
        ("model", None),
        ("pause", None),
        ("decision", "hold"),
        ("continue", None),
        ("tool", "hold"),
        ("model", None),
        ("end", None),
    ]
    by_kind = {entry["kind"]: entry for entry in timeline["data"]}
    assert by_kind["pause"]["seconds"] == 30
    assert by_kind["pause"]["requirements"][0]["arguments"] == {"name": "door"}
    assert by_kind["decision"]["decision"] == "confirmed"
    assert by_kind["tool"]["seconds"] == 5
    assert by_kind["end"]["status"] == "COMPLETED"
    assert timeline["totals"] == {"queued": 0, "model": 0, "tools": 5, "waiting": 30, "other": 0}
    assert [(span["kind"], span["seconds"]) for span in timeline["spans"]] == [("waiting", 30), ("tools", 5)]


async def test_the_timeline_of_a_run_that_goes_on_ends_now(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        run = await server.begin("hello")
        await gates.reached("think")
        await server.logged(EventType.MODEL_REQUEST_STARTED)
        server.clock.move(7)
        timeline = body_of(await server.get(f"/runs/{run['run_id']}/timeline"))
        gates.open("think")
        await server.settled(run)
    assert timeline["status"] == "RUNNING"
    assert timeline["data"][-1]["kind"] == "model"
    assert timeline["data"][-1]["seconds"] is None
    assert timeline["totals"]["model"] == 7


async def test_a_run_is_cancelled_paused_and_resumed_by_its_id_alone(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        run = await server.begin(plan([("note", {"text": "x"})]))
        path = f"/runs/{run['run_id']}"
        await gates.reached("think")
        assert body_of(await server.post(f"{path}/pause")) == {"run_id": run["run_id"], "status": "RUNNING"}
        gates.open("think")
        await server.settled(run)
        shown = body_of(await server.get(path))
        assert (shown["status"], shown["open_requirements"]) == ("PAUSED", 0)
        first = body_of(await server.post(f"{path}/resume", {"prompt": "go on"}, key="again"))
        assert first["status"] in {"PENDING", "RUNNING"}
        assert body_of(await server.post(f"{path}/resume", {"prompt": "go on"}, key="again")) == first
        assert (await server.settled(run))["status"] == "COMPLETED"
        assert (await server.post(f"{path}/resume")).status_code == 409
        assert (await server.post(f"{path}/pause")).status_code == 409
        assert body_of(await server.post(f"{path}/cancel"))["status"] == "COMPLETED"


async def test_a_run_that_waits_for_a_decision_is_not_resumed_without_one(server: Server) -> None:
    run = await server.run_tools("delete_file")
    async with server.nothing_changes():
        response = await server.post(f"/runs/{run['run_id']}/resume")
    assert (response.status_code, response.json()["error_code"]) == (422, "bad_request")
    assert body_of(await server.post(f"/runs/{run['run_id']}/cancel"))["status"] == "CANCELLED"


async def test_a_failed_run_has_its_error_and_for_administrators_alone_a_traceback(tmp_path: Path) -> None:
    async with served(tmp_path, failing_agent(), tokens=True) as people:
        alice = people.user("alice")
        run = await alice.create("hello", agent="failing")
        shown = await read_both(people, run)
        (item,) = body_of(await people.get("/runs", status="error"))["data"]
    assert (shown["alice"]["status"], shown["alice"]["error"]["reason"]) == ("ERROR", "model_error")
    assert "this went wrong" in shown["alice"]["error"]["message"]
    assert "traceback" not in shown["alice"]["error"]
    assert "Traceback" in shown["root"]["error"]["traceback"]
    assert "traceback" not in item["error"]


def failing_agent() -> Agent[None, str]:
    """Return an agent whose model raises an error."""

    async def fail(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
        yield "Let me see"
        raise RuntimeError("this went wrong")

    return Agent(FunctionModel(stream_function=fail), name="failing")


async def test_pictures_of_prompts_are_shown_and_other_files_are_downloads(people: Server) -> None:
    png, page = b"\x89PNG\r\n\x1a\n" + bytes(9), b"<script>alert(1)</script>"
    files = {
        "images": [{"id": "m", "content": b64encode(png).decode()}],
        "input_files": [{"id": "f", "content": page.decode(), "mime_type": "text/html", "filename": "a.html"}],
    }
    alice = people.user("alice")
    run = await alice.create("look", **{name: json.dumps(value) for name, value in files.items()})
    path = f"/runs/{run['run_id']}/images"
    message = body_of(await alice.get(f"/runs/{run['run_id']}/timeline"))["data"][0]
    assert (message["images"], message["prompt"]) == (2, 0)

    picture = await alice.get(f"{path}/0/0")
    assert (picture.content, picture.headers["content-type"]) == (png, "image/png")
    assert picture.headers["x-content-type-options"] == "nosniff"
    download = await alice.get(f"{path}/0/1")
    assert (download.content, download.headers["content-type"]) == (page, "application/octet-stream")
    assert download.headers["content-disposition"] == "attachment"
    for missing in ("0/2", "1/0"):
        assert (await alice.get(f"{path}/{missing}")).status_code == 404
    assert (await people.user("bob").get(f"{path}/0/0")).status_code == 404


async def read_both(people: Server, run: JsonObject) -> dict[str, JsonObject]:
    """Return the run as its user and as an administrator see it."""
    path = f"/runs/{run['run_id']}"
    return {who: body_of(await people.user(who).get(path)) for who in ("alice", "root")}


async def test_times_are_utc_and_can_be_read(server: Server) -> None:
    run = await server.create("hello")
    shown = body_of(await server.get(f"/runs/{run['run_id']}"))
    for name in ("created_at", "updated_at", "ended_at"):
        assert shown[name].endswith("Z")
        assert datetime.fromisoformat(shown[name]) == server.clock.now()
