"""The fake model server, asked by Pydantic AI's own OpenAI model and, where the wire matters, over HTTP."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError

from tests.fakes.openai_server import (
    CutReply,
    ErrorReply,
    OpenAIServer,
    TextReply,
    ToolCall,
    ToolCallsReply,
    replies_in_turn,
)
from unpause.agents.models import resolve_model

if TYPE_CHECKING:
    from tests.fakes.openai_server import Reply

KEY = "sk-of-the-test-environment"
CALL = {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "content of notes.txt"}
TWO_FILES = ToolCallsReply(
    [
        ToolCall("call_1", "read", {"path": "notes.txt"}),
        ToolCall("call_2", "read", {"path": "münchen.txt"}),
    ]
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known key, and no proxy between the test and its server."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for variable in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


async def ask(server: OpenAIServer, prompt: str) -> str:
    """Run an agent that can read files, without streaming."""
    async with resolve_model("openai:test-model", base_url=server.base_url) as model:
        agent = Agent(model)
        agent.tool_plain(read)
        return (await agent.run(prompt)).output


async def stream(server: OpenAIServer, prompt: str, pieces: list[str]) -> int:
    """Run the same agent with streaming: `pieces` gets the text as it comes; return the input tokens."""
    async with resolve_model("openai:test-model", base_url=server.base_url) as model:
        agent = Agent(model)
        agent.tool_plain(read)
        async with agent.run_stream(prompt) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                pieces.append(piece)  # noqa: PERF401 - kept up to the moment of an error
        return result.usage.input_tokens


def read(path: str) -> str:
    """Read a file."""
    return f"content of {path}"


def post(server: OpenAIServer, **request: object) -> httpx.Response:
    return httpx.post(f"{server.base_url}/chat/completions", json={"model": "m", **request})


def events_of(response: httpx.Response) -> list[str]:
    return [event.removeprefix("data: ") for event in response.text.split("\n\n") if event]


async def test_text_streams_in_the_scripted_pieces() -> None:
    pieces: list[str] = []
    with OpenAIServer(replies_in_turn(TextReply("one two three", pieces=4))) as server:
        input_tokens = await stream(server, "Count", pieces)
    assert pieces == ["one ", "two ", "thre", "e"]
    assert input_tokens > 0
    assert server.requests[0].body["stream"] is True


async def test_text_comes_whole_without_streaming() -> None:
    with OpenAIServer(replies_in_turn(TextReply("one two three"))) as server:
        assert await ask(server, "Count") == "one two three"
    assert not server.requests[0].body.get("stream")


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
async def test_tool_calls_arrive_and_their_results_are_sent_back(*, is_streamed: bool) -> None:
    pieces: list[str] = []
    with OpenAIServer(replies_in_turn(TWO_FILES, TextReply("Read both."))) as server:
        if is_streamed:
            await stream(server, "Read the files", pieces)
        else:
            pieces.append(await ask(server, "Read the files"))
    assert "".join(pieces) == "Read both."
    first, second = server.requests
    assert [tool["function"]["name"] for tool in first.body["tools"]] == ["read"]
    results = [message for message in second.body["messages"] if message["role"] == "tool"]
    assert [(result["tool_call_id"], result["content"]) for result in results] == [
        ("call_1", "content of notes.txt"),
        ("call_2", "content of münchen.txt"),
    ]


def test_broken_arguments_reach_the_client_as_they_are() -> None:
    with OpenAIServer(replies_in_turn(ToolCallsReply([ToolCall("call_1", "read", '{"path": ')]))) as server:
        answer = post(server, messages=[]).json()
    assert answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"path": '
    assert answer["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("is_streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(("status", "code"), [(401, "invalid_api_key"), (429, "rate_limit_exceeded"), (500, None)])
async def test_an_error_status_is_a_model_http_error(status: int, code: str | None, *, is_streamed: bool) -> None:
    with OpenAIServer(replies_in_turn(ErrorReply(status))) as server, pytest.raises(ModelHTTPError) as caught:
        await (stream(server, "Hello", []) if is_streamed else ask(server, "Hello"))
    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["code"] == code
    assert len(server.requests) == 1


async def test_an_error_carries_the_scripted_body() -> None:
    reply = ErrorReply(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    with OpenAIServer(replies_in_turn(reply)) as server, pytest.raises(ModelHTTPError, match="too long"):
        await ask(server, "Hello")


async def test_a_cut_stream_is_an_error_after_the_text_before_the_cut() -> None:
    pieces: list[str] = []
    with OpenAIServer(replies_in_turn(CutReply("half a sent"))) as server, pytest.raises(ModelAPIError):
        await stream(server, "Speak", pieces)
    assert "".join(pieces) == "half a sent"
    assert len(server.requests) == 1


def test_an_answer_cut_without_streaming_breaks_off_inside_its_body() -> None:
    script = replies_in_turn(CutReply("half a sent"))
    with OpenAIServer(script) as server, pytest.raises(httpx.RemoteProtocolError):
        post(server, messages=[])


@pytest.mark.parametrize("name", ["openai:test-model", "test-model"])
async def test_the_model_name_and_the_key_of_the_environment_are_sent(name: str) -> None:
    with OpenAIServer(replies_in_turn(TextReply("hello"))) as server:
        async with resolve_model(name, base_url=server.base_url) as model:
            await Agent(model).run("Hello")
    assert server.requests[0].body["model"] == "test-model"
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [None, "", "\n"])
async def test_a_local_server_is_asked_without_a_key(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with OpenAIServer(replies_in_turn(TextReply("hello"))) as server:
        assert await ask(server, "Hello") == "hello"


def test_a_streamed_tool_call_is_a_head_and_argument_pieces_with_its_index() -> None:
    with OpenAIServer(replies_in_turn(TWO_FILES)) as server:
        response = post(server, messages=[], stream=True, stream_options={"include_usage": True})
    *chunks, usage, done = events_of(response)
    choices = [json.loads(chunk)["choices"][0] for chunk in chunks]
    calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
    heads = [(call["index"], call["id"], call["function"]["name"]) for call in calls if "id" in call]
    assert heads == [(0, "call_1", "read"), (1, "call_2", "read")]
    for index, call in enumerate(TWO_FILES.calls):
        pieces = [c["function"]["arguments"] for c in calls if c["index"] == index and "id" not in c]
        assert len(pieces) == 3
        assert "".join(pieces) == call.arguments_json
    assert [choice["finish_reason"] for choice in choices[-2:]] == [None, "tool_calls"]
    assert json.loads(usage)["choices"] == []
    assert json.loads(usage)["usage"]["completion_tokens"] > 0
    assert done == "[DONE]"


def test_a_stream_says_its_usage_only_if_asked() -> None:
    with OpenAIServer(replies_in_turn(TextReply("hello"))) as server:
        response = post(server, messages=[], stream=True)
    assert response.headers["content-type"] == "text/event-stream"
    assert "usage" not in response.text


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([CALLING, RESULT], 200),
        ([CALLING], 400),
        ([CALLING, {"role": "user", "content": "Well?"}], 400),
        ([RESULT], 400),
        ([CALLING, RESULT, RESULT], 400),
    ],
    ids=["sound", "unanswered at the end", "unanswered before words", "answer to nothing", "answered twice"],
)
def test_a_history_whose_calls_and_results_do_not_match_is_refused(messages: list[dict[str, Any]], status: int) -> None:
    with OpenAIServer(lambda _: TextReply("hello")) as server:
        assert post(server, messages=messages).status_code == status
    assert server.requests[0].body["messages"] == messages


def test_a_route_openai_does_not_have_is_not_found() -> None:
    with OpenAIServer(replies_in_turn()) as server:
        assert httpx.post(f"{server.base_url}/nothing", json={}).status_code == 404
    assert server.requests == []


def test_a_script_that_fails_fails_the_test() -> None:
    failure = pytest.raises(AssertionError, match="more than the 0 scripted requests")
    with failure, OpenAIServer(replies_in_turn()) as server:
        post(server, messages=[])


async def test_two_requests_are_answered_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=30)

    def script(_request: dict[str, Any]) -> Reply:
        both.wait()  # breaks, and so fails the test, if the second request waits for the first
        return TextReply("hello")

    with OpenAIServer(script) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, server, "Hello")
            tasks.start_soon(ask, server, "Hello")
    assert len(server.requests) == 2


def test_a_client_that_leaves_in_the_middle_of_a_stream_disturbs_nothing() -> None:
    is_asked, is_gone = threading.Event(), threading.Event()

    def script(_request: dict[str, Any]) -> Reply:
        is_asked.set()
        assert is_gone.wait(30)
        return TextReply("x" * 10_000, pieces=10_000)

    body = json.dumps({"model": "m", "messages": [], "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: fake\r\nContent-Length: %d\r\n\r\n" % len(body)
    with OpenAIServer(script) as server:
        with socket.create_connection(("127.0.0.1", server.server_port)) as client:
            client.sendall(head + body)
            assert is_asked.wait(30)
        is_gone.set()
    assert len(server.requests) == 1
