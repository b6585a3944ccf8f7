"""What AgentOS's API says about requests to create and read runs that do not fit, and what it takes in its stride."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.contract.replaying import read_events
from tests.support.caller import RUNS, confirmed
from tests.support.server import Server, served
from tests.support.toolbox import plan

DELETE = ("delete_file", {"path": "/a"})
MISSING = {"detail": [{"type": "missing", "loc": ["body", "message"], "msg": "Field required", "input": None}]}


async def test_a_message_that_is_missing_or_empty_is_a_422(server: Server) -> None:
    for response in (
        await server.client.post(RUNS, data={"stream": "false"}),
        await server.client.post(RUNS, data={"message": "", "stream": "false"}),
        await server.client.post(RUNS, files={"message": (None, "")}),
        await server.post(RUNS, {"stream": False}),
        await server.post(RUNS, {"message": None}),
        await server.client.post(RUNS),
    ):
        assert (response.status_code, response.json()) == (422, MISSING)
    assert (await server.dump())["runs"] == []


@pytest.mark.parametrize("path", [RUNS, f"{RUNS}/no-such-run/continue"])
async def test_a_stream_that_is_no_boolean_is_a_422(server: Server, path: str) -> None:
    response = await server.client.post(path, data={"message": "x", "stream": "maybe"})
    assert response.status_code == 422
    assert response.json() == {
        "detail": [
            {
                "type": "bool_parsing",
                "loc": ["body", "stream"],
                "msg": "Input should be a valid boolean, unable to interpret input",
                "input": "maybe",
            }
        ]
    }


async def test_the_words_for_streaming_are_those_of_the_original(server: Server) -> None:
    cases: list[tuple[str | None, bool]] = [("1", True), ("on", True), ("0", False), ("off", False), (None, True)]
    for word, streams in cases:
        form = {"message": "hello"} if word is None else {"message": "hello", "stream": word}
        response = await server.client.post(RUNS, data=form)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream") is streams


async def test_an_unknown_agent_is_not_found_and_makes_no_run(server: Server) -> None:
    response = await server.client.post("/agents/nobody/runs", data={"message": "x"})
    assert (response.status_code, response.json()) == (404, {"detail": "Agent not found"})
    dump = await server.dump()
    assert (dump["runs"], dump["sessions"]) == ([], [])


async def test_fields_that_are_not_known_are_ignored(server: Server) -> None:
    run = await server.create([DELETE], monitor="true", run_id="mine", status="COMPLETED", agent_id="other")
    assert (run["status"], run["agent_id"]) == ("PAUSED", "toolbox")
    assert run["run_id"] != "mine"
    done = await server.continued(run, [confirmed(run["tools"][0])], fork="true", input="x")
    assert (done["status"], done["run_id"]) == ("COMPLETED", run["run_id"])


async def test_an_empty_session_id_begins_a_new_session(server: Server) -> None:
    first, second = await server.create(session_id=""), await server.create(session_id="")
    assert len({first["session_id"], second["session_id"], ""}) == 3


async def test_a_name_that_is_too_long_is_a_422(server: Server) -> None:
    for field in ("session_id", "user_id"):
        response = await server.client.post(RUNS, data={"message": "x", "stream": "false", field: "a" * 256})
        assert response.status_code == 422
        (error,) = response.json()["detail"]
        assert (error["loc"], error["type"]) == (["body", field], "string_too_long")
        assert (await server.dump())["runs"] == []


async def test_a_message_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path, max_message_chars=100) as server:
        assert (await server.create([], note="x" * 1000))["status"] == "COMPLETED"
        response = await server.client.post(RUNS, data={"message": "x" * 101})
        assert (response.status_code, response.json()) == (400, {"detail": "message is longer than 100 characters"})


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_is_a_413(tmp_path: Path, *, announced: bool) -> None:
    async with served(tmp_path, max_body_bytes=2000) as server:
        run = await server.create([DELETE])

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"tools=" + b"x" * 494

        body = b"tools=" + b"x" * 5000
        async with server.nothing_changes():
            response = await server.client.post(
                f"{RUNS}/{run['run_id']}/continue",
                content=body if announced else pieces(),
                headers={"content-type": "application/x-www-form-urlencoded"},
            )
        assert (response.status_code, response.json()) == (413, {"detail": "Request body is larger than 2000 bytes"})


async def test_bytes_that_are_no_form_leave_the_run_alone(server: Server) -> None:
    for content_type, content in (
        ("application/x-www-form-urlencoded", b"tools=\xff\xfe[&stream=false"),
        ("application/x-www-form-urlencoded", b"tools=%FF%FE[&stream=false"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="tools"\r\n\r\n\xff[\r\n--b--',
        ),
        ("multipart/form-data", b"no boundary at all"),
        ("multipart/form-data; boundary=b", b"--b\r\nbroken"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="tools"; filename="t.json"\r\n\r\n[]\r\n--b--\r\n',
        ),
        ("application/x-www-form-urlencoded", b"tools=[&tools=[]&stream=false" + b"&a=b" * 5000),
        ("multipart/form-data; boundary=b; charset=nonsense", b"--b\r\nX: y\r\n\r\n--b--"),
        ("text/plain", b"tools=[]"),
        ("application/json", b'{"tools": ['),
    ):
        run = await server.create([DELETE])
        async with server.nothing_changes():
            response = await server.client.post(
                f"{RUNS}/{run['run_id']}/continue", content=content, headers={"content-type": content_type}
            )
        assert response.status_code in {400, 415, 422}, response.text
        assert "detail" in response.json()


async def test_text_in_any_script_comes_back_as_it_was_sent(server: Server) -> None:
    text = 'héllo ☃ \U0001f600 \n\t"quoted" \\ \u2028 <b>&amp;'
    run = await server.create([("note", {"text": text})])
    assert server.executed == [f"note({text})"]
    assert run["input"]["input_content"] == plan([("note", {"text": text})])
    response = await server.client.post(RUNS, data={"message": plan([("note", {"text": text})])})
    assert "☃".encode() in response.content
    (call,) = [event for event in read_events(response.text) if event["event"] == "ToolCallStarted"]
    assert call["tool"]["tool_args"] == {"text": text}


async def test_a_run_is_read_with_its_session_or_without(server: Server) -> None:
    run = await server.create([DELETE], session_id="s1")
    path = f"{RUNS}/{run['run_id']}"
    for query in ({}, {"session_id": "s1"}, {"session_id": ""}, {"session_id": "s1", "unknown": "x"}):
        response = await server.client.get(path, params=query)
        assert (response.status_code, response.json()["run_id"]) == (200, run["run_id"])


async def test_a_run_that_is_not_there_is_not_found(server: Server) -> None:
    run = await server.create([DELETE], session_id="s1")
    for path in (
        f"{RUNS}/{run['run_id']}?session_id=s2",
        f"{RUNS}/no-such-run",
        f"{RUNS}/{run['run_id'].upper()}x",
        f"/agents/other/runs/{run['run_id']}",
    ):
        response = await server.get(path)
        assert (response.status_code, response.json()) == (404, {"detail": "Run not found"}), path
    response = await server.get(f"/agents/nobody/runs/{run['run_id']}")
    assert (response.status_code, response.json()) == (404, {"detail": "Agent not found"})


async def test_a_run_that_fails_is_a_200_with_its_error(server: Server) -> None:
    response: httpx.Response = await server.client.post(RUNS, data={"message": "[[[", "stream": "false"})
    body = response.json()
    assert (response.status_code, body["status"]) == (200, "ERROR")
    response = await server.client.post(RUNS, data={"message": "[[["})
    assert [event["event"] for event in read_events(response.text)] == [
        "RunStarted",
        "ModelRequestStarted",
        "RunError",
    ]
