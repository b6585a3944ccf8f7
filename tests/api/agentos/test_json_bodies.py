"""Create and continue with JSON instead of a form."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.caller import RUNS, body_of, path_of
from tests.support.server import Server
from tests.support.toolbox import plan

DELETE = ("delete_file", {"path": "/a"})


async def test_a_run_is_created_and_continued_with_json(server: Server) -> None:
    """The answers are a real array, and the response is JSON unless a stream is requested."""
    sent = {"message": plan([DELETE]), "session_id": "s", "user_id": None, "session_state": {"a": 1}, "metadata": {}}
    run = body_of(await server.post(RUNS, sent))
    assert (run["status"], run["session_id"], run["session_state"]) == ("PAUSED", "s", {"a": 1})

    answer = {"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}
    ended = body_of(await server.post(f"{path_of(run)}/continue", {"tools": [answer]}))

    assert ended["status"] == "COMPLETED"
    assert server.executed == ["delete_file(/a)"]


async def test_the_text_of_the_form_is_accepted_in_json(server: Server) -> None:
    run = await server.create([DELETE])
    tools = f'[{{"tool_call_id": "{run["tools"][0]["tool_call_id"]}", "confirmed": false}}]'
    ended = body_of(await server.post(f"{path_of(run)}/continue", {"tools": tools}))
    assert (ended["status"], server.executed) == ("COMPLETED", [])


async def test_json_streams_where_it_says_so(server: Server) -> None:
    for sent, streams in (({}, False), ({"stream": None}, False), ({"stream": True}, True)):
        response = await server.post(RUNS, {"message": "hello", **sent})
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream") is streams


async def test_a_key_sent_again_with_the_same_fields_as_a_form_gives_the_same_run(server: Server) -> None:
    first = await server.post(RUNS, {"message": "hello"}, "key")
    second = await server.form(RUNS, "key", message="hello")
    assert first.json()["run_id"] == second.json()["run_id"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{", "json_invalid"),
        (b"[]", "json_invalid"),
        (b"", "json_invalid"),
        (b'{"message": ["hello"]}', "string_type"),
        (b'{"message": "hello", "stream": "maybe"}', "bool_parsing"),
        (b'{"message": "hello", "files": ["text"]}', "value_error"),
    ],
)
async def test_json_that_does_not_fit_is_a_422(server: Server, content: bytes, kind: str) -> None:
    async with server.nothing_changes():
        response = await server.request("POST", RUNS, {"Content-Type": "application/json"}, content=content)
    assert response.status_code == 422, response.text
    assert response.json()["detail"][0]["type"] == kind


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "text/plain; charset=utf-8"])
async def test_any_other_type_is_a_415_and_changes_nothing(server: Server, content_type: str) -> None:
    run = await server.create([DELETE])
    headers = {"Content-Type": content_type}
    async with server.nothing_changes():
        for path in (RUNS, f"{path_of(run)}/continue"):
            response = await server.request("POST", path, headers, content=b"message=hello")
            expected = f"Content-Type must be application/json or that of a form, not {content_type.partition(';')[0]}"
            found: tuple[int, Any] = (response.status_code, response.json())
            assert found == (415, {"detail": expected})
