"""What agent-ui, Agno's open web client, needs of a server: its routes, its headers, and streams that it can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.clients.agent_ui_stream import Chat, ObjectReader, chat_of
from tests.clients.conftest import AGENTS_FILE
from tests.support.processes import ServerProcess

PAGE = "http://localhost:3000"

# What it sends with every GET and DELETE; the type makes the browser ask first.
HEADERS = {"Origin": PAGE, "Content-Type": "application/json", "Authorization": "Bearer a-token"}

PIECES = [1, 7, 65536]


def send_message(http: httpx.Client, message: str, session_id: str = "") -> httpx.Response:
    """Post a message as it does: a form of many parts, the session empty in a new chat."""
    fields = {"message": message, "stream": "true", "session_id": session_id}
    headers = {name: HEADERS[name] for name in ("Origin", "Authorization")}
    parts = {name: (None, value) for name, value in fields.items()}
    return http.post("/agents/desk/runs", files=parts, headers=headers)


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """Return the objects in the stream."""
    return ObjectReader().feed(stream)


class TestRoutes:
    @pytest.mark.parametrize(
        ("method", "path", "requested"),
        [
            ("GET", "/health", "authorization,content-type"),
            ("GET", "/agents", "authorization,content-type"),
            ("GET", "/sessions?type=agent&component_id=desk&db_id=unpause", "authorization,content-type"),
            ("DELETE", "/sessions/some?db_id=unpause", "authorization,content-type"),
            ("POST", "/agents/desk/runs", "authorization"),
        ],
    )
    def test_the_browser_is_told_that_the_page_may_ask(
        self, http: httpx.Client, method: str, path: str, requested: str
    ) -> None:
        headers = {"Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": requested}
        answer = http.options(path, headers=headers)

        assert (answer.status_code, answer.text) == (200, "OK")
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert method in answer.headers["access-control-allow-methods"].split(", ")
        assert answer.headers["access-control-allow-headers"] == requested

    def test_a_page_from_elsewhere_is_refused(self, http: httpx.Client) -> None:
        answer = http.get("/agents", headers={**HEADERS, "Origin": "https://example.org"})

        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers

    def test_the_endpoint_is_active(self, http: httpx.Client) -> None:
        answer = http.get("/health", headers=HEADERS)

        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == PAGE

    def test_agents_come_with_what_its_menu_shows(self, http: httpx.Client) -> None:
        agents = http.get("/agents", headers=HEADERS).json()

        model = {"name": "script-1", "model": "script-1", "provider": "function"}
        shown = [{key: agent[key] for key in ("id", "name", "db_id", "model")} for agent in agents]
        assert shown == [{"id": name, "name": name, "db_id": "unpause", "model": model} for name in ("desk", "other")]

    def test_there_are_no_teams(self, http: httpx.Client) -> None:
        assert http.get("/teams", headers=HEADERS).json() == []

    def test_a_chat_is_listed_read_back_and_deleted(self, http: httpx.Client) -> None:
        session_id = uuid4().hex
        assert send_message(http, f"say {session_id}", session_id).status_code == 200
        assert send_message(http, "add", session_id).status_code == 200
        where = {"type": "agent", "db_id": "unpause"}

        listed = http.get("/sessions", params={**where, "component_id": "desk"}, headers=HEADERS).json()
        entry = next(entry for entry in listed["data"] if entry["session_id"] == session_id)
        assert entry["session_name"] == f"say {session_id}"
        assert {"created_at", "updated_at"} <= entry.keys()
        assert listed["meta"]["total_count"] >= 1

        runs = http.get(f"/sessions/{session_id}/runs", params=where, headers=HEADERS).json()
        assert [(run["run_input"], run["content"]) for run in runs] == [
            (f"say {session_id}", session_id),
            ("add", "Told: 5"),
        ]
        assert [tool["tool_name"] for run in runs for tool in run["tools"]] == ["add"]
        assert all(run["created_at"] for run in runs)

        gone = http.delete(f"/sessions/{session_id}", params={"db_id": "unpause"}, headers=HEADERS)
        assert (gone.is_success, gone.headers["access-control-allow-origin"]) == (True, PAGE)
        assert http.get(f"/sessions/{session_id}/runs", params=where, headers=HEADERS).status_code == 404

    def test_no_sessions_are_an_empty_list(self, http: httpx.Client) -> None:
        where = {"type": "agent", "component_id": "nobody", "db_id": "unpause"}

        assert http.get("/sessions", params=where, headers=HEADERS).json()["data"] == []

    def test_a_refused_message_says_why(self, http: httpx.Client) -> None:
        parts = {"message": (None, "hello"), "stream": (None, "true"), "session_id": (None, "")}
        answer = http.post("/agents/nobody/runs", files=parts, headers={"Origin": PAGE})

        assert (answer.status_code, answer.json()["detail"]) == (404, "Agent not found")
        assert answer.headers["access-control-allow-origin"] == PAGE


class TestStreams:
    @pytest.mark.parametrize("size", PIECES)
    @pytest.mark.parametrize(
        "text",
        [
            "hello",
            'unicode ☃ 🦊 é, {braces}, {"json": {"event": "RunError", "data": 1}}',
            "lines\nand\r\nmore\n\ndata: {\nevent: x\n: {",
            'quotes " and \\ backslashes \\" and } at the end \\',
            "ha ha ha ha ha ha ha ha ha ha ha ha",
        ],
    )
    def test_the_text_is_rebuilt(self, http: httpx.Client, text: str, size: int) -> None:
        answer = send_message(http, f"say {text}")
        chat = chat_of(answer.content, size)

        assert chat.content == text
        assert chat.error is None

    def test_pieces_put_together_are_the_text(self, http: httpx.Client) -> None:
        text = "every piece of this is another one"
        chat = chat_of(send_message(http, f"say {text}").content, 7)

        assert chat.streamed == chat.content == text

    def test_a_new_chat_learns_its_session(self, http: httpx.Client) -> None:
        first = chat_of(send_message(http, "say one").content, 7)
        second = chat_of(send_message(http, "say two").content, 7)
        assert first.session_id
        assert second.session_id
        again = chat_of(send_message(http, "say three", first.session_id).content, 7)

        assert again.session_id == first.session_id != second.session_id

    def test_tools_are_shown_with_their_results(self, http: httpx.Client) -> None:
        chat = chat_of(send_message(http, "add").content, 7)

        (tool,) = chat.tools.values()
        assert (tool["tool_name"], tool["tool_args"], tool["result"]) == ("add", {"a": 2, "b": 3}, "5")
        assert (tool["tool_call_error"], bool(tool["metrics"])) == (False, True)
        assert chat.content == "Told: 5"

    def test_a_pause_does_no_harm(self, http: httpx.Client) -> None:
        chat = chat_of(send_message(http, "mixed /data/{x}").content, 1)

        assert [tool["tool_name"] for tool in chat.tools.values()] == ["add"]
        assert (chat.content, chat.error) == ("", None)

    def test_an_error_is_shown(self, http: httpx.Client) -> None:
        chat = chat_of(send_message(http, "fail").content, 7)

        assert chat.error == "the model is out of order"

    @pytest.mark.parametrize("message", ["say x", "add", "mixed /data/x", "deploy x", "fail"])
    def test_every_event_has_its_name_and_none_has_an_envelope(self, http: httpx.Client, message: str) -> None:
        stream = send_message(http, message).content
        named = [line.removeprefix("event: ") for line in stream.decode().split("\n") if line.startswith("event: ")]

        assert named
        assert [event["event"] for event in events_of(stream)] == named
        assert b'"data":' not in stream

    def test_the_type_is_that_of_a_stream(self, http: httpx.Client) -> None:
        answer = send_message(http, "say x")

        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["access-control-allow-origin"] == PAGE


def test_comments_in_silence_do_no_harm(tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, "--agents", AGENTS_FILE, "--keepalive-seconds", "1") as server,
        server.client() as http,
        server.client() as other,
    ):
        reader, chat, lines = ObjectReader(), Chat(), []
        fields = {"message": "wait here", "session_id": ""}
        with http.stream("POST", "/agents/desk/runs", data=fields) as answer:
            run_id = ""
            for line in answer.iter_lines():
                lines.append(line)
                for event in reader.feed(line.encode() + b"\n"):
                    chat.show(event)
                    run_id = event["run_id"]
                if line.startswith(":"):
                    other.post(f"/agents/desk/runs/{run_id}/cancel").raise_for_status()

    comments = [line for line in lines if line.startswith(":")]
    assert comments
    assert set(comments) == {": keepalive"}
    assert "event: RunCancelled" in lines
    assert chat.content == "here"
