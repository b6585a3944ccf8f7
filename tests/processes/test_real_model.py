"""The way to a real model: an OpenAI-compatible server answers over HTTP, and its errors tell no secrets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.fakes.openai_server import ErrorReply, OpenAIServer, Reply, TextReply, ToolCall, ToolCallsReply
from tests.processes.conversation import (
    RUNS,
    Json,
    agno_name,
    calls_of,
    confirming,
    continue_path,
    create_codegen_run,
    create_run,
    read_codegen_run,
    read_frames,
    read_run,
    rejecting,
)
from tests.support.processes import ServerProcess

# Nothing of these may show up anywhere but in the request to the model's server.
KEY = "sk-canary-4f1d8a7e0b"
OTHER_SECRET = "canary-pässword-91c2"

TEXT = "Grüße aus München, in mehreren Teilen gesendet."


@dataclass
class Provider:
    """What the model's server answers: by the words of the user, so that tests at the same time do not mix."""

    base_url: str = ""
    replies: dict[str, Callable[[Mapping[str, Any]], Reply]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: dict[str, Any]) -> Reply:
        words = next(str(message["content"]) for message in request["messages"] if message["role"] == "user")
        with self.lock:
            return self.replies[words](request)


def calling(name: str) -> Callable[[Mapping[str, Any]], Reply]:
    """Return a model that calls `delete` and then says what the tool, or the human, said."""

    def answer(request: Mapping[str, Any]) -> Reply:
        said = [message["content"] for message in request["messages"] if message["role"] == "tool"]
        if said:
            return TextReply(f"The tool said: {said[-1]}")
        return ToolCallsReply([ToolCall(f"call_{name}", "delete", {"name": name})])

    return answer


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    provider.replies = {
        "in pieces": lambda _: TextReply(TEXT, pieces=5),
        "delete and go": calling("go"),
        "delete and keep": calling("keep"),
        "refuse the key": lambda _: ErrorReply(
            401,
            {
                "error": {
                    "message": f"Incorrect API key provided: {KEY}. Also {OTHER_SECRET}.",
                    "code": "invalid_api_key",
                }
            },
        ),
        "break": lambda _: ErrorReply(500, {"error": {"message": f"boom Authorization: Bearer {KEY}"}}),
    }
    with OpenAIServer(provider.answer) as fake:
        provider.base_url = fake.base_url
        yield provider
        assert {request.headers["authorization"] for request in fake.requests} == {f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[ServerProcess]:
    options = ("--model", "openai:test", "--model-base-url", provider.base_url)
    environment = {"OPENAI_API_KEY": KEY, "DEPLOY_TOKEN": OTHER_SECRET, "UNPAUSE_AGENT_ENV": "TEST_FOLDER,DEPLOY_TOKEN"}
    with ServerProcess(tmp_path_factory.mktemp("model"), *options, environment=environment) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_the_text_of_the_model_streams_in_its_pieces(client: httpx.Client) -> None:
    with client.stream("POST", RUNS, data={"message": "in pieces"}) as response:
        frames = list(read_frames(response.iter_lines()))
    pieces = [frame.data["content"] for frame in frames if frame.event == "RunContent"]
    assert len(pieces) == 5
    assert "".join(pieces) == TEXT
    assert frames[-1].event == "RunCompleted"
    assert frames[-1].data["content"] == TEXT
    started = next(frame.data for frame in frames if frame.event == "ModelRequestStarted")
    assert (started["model"], started["model_provider"]) == ("test", "openai")
    finished = next(frame.data for frame in frames if frame.event == "ModelRequestCompleted")
    assert finished["input_tokens"] > 0
    assert finished["output_tokens"] == -(-len(TEXT) // 4)


def test_a_call_that_needs_a_confirmation_pauses_and_goes_on(server: ServerProcess, client: httpx.Client) -> None:
    run = create_run(client, "delete and go")
    assert (run["status"], run["tools"][0]["tool_args"]) == ("PAUSED", {"name": "go"})
    assert calls_of(server, "go") == []
    with client.stream("POST", continue_path(run), data={"tools": confirming(run)}) as response:
        frames = list(read_frames(response.iter_lines()))
    assert frames[-1].data["content"] == "The tool said: did delete go"
    assert calls_of(server, "go") == ["delete go"]


def test_a_call_that_is_rejected_tells_the_model_the_note(server: ServerProcess, client: httpx.Client) -> None:
    run = create_run(client, "delete and keep")
    data = {"tools": rejecting(run, "we still need it"), "stream": "false"}
    done = client.post(continue_path(run), data=data).json()
    assert (done["status"], done["content"]) == ("COMPLETED", "The tool said: we still need it")
    assert calls_of(server, "keep") == []


@pytest.mark.parametrize(("words", "status"), [("refuse the key", "401"), ("break", "500")])
def test_an_error_of_the_provider_ends_the_run_and_tells_no_secret(
    server: ServerProcess, client: httpx.Client, words: str, status: str
) -> None:
    answer = client.post(RUNS, data={"message": words, "stream": "false"})
    run: Json = answer.json()
    assert answer.status_code == 200
    assert run["status"] == "ERROR"
    assert status in run["content"]
    assert client.post(continue_path(run), data={"tools": "[]"}).status_code == 409
    with client.stream("POST", RUNS, data={"message": words}) as response:
        stream = "".join(response.iter_text())
    assert "event: RunError" in stream
    made = create_codegen_run(client, words)
    ended = read_codegen_run(client, made["id"])
    assert ended["status"] == "ERROR"
    stored = client.get(f"/agents/scripted/runs/{agno_name(made)['run_id']}").text
    files = [file.read_bytes() for file in server.folder.glob("unpause.db*")]
    assert any(words.encode() in content for content in files), "the runs are in these files"
    for secret in (KEY, OTHER_SECRET, "canary"):
        assert secret not in answer.text + stream + str(ended) + stored
        assert secret not in read_run(client, run)["content"]
        assert not any(secret.encode() in content for content in files)
        assert secret not in server.output
