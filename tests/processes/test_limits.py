"""What a server that listens refuses before anything reads it: bodies over the limit, and foreign pages."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.processes.conversation import (
    CODEGEN,
    RUNS,
    Json,
    confirming,
    continue_path,
    continue_run,
    create_run,
    read_run,
)
from tests.support.processes import DEADLINE, ServerProcess

LIMIT = 4096

FOREIGN = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1.evil.example"},
    {"Origin": "null"},
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:7777"},
    {"Host": "192.0.2.1"},
]
LOCAL = [{}, {"Origin": "http://localhost:3000"}, {"Host": "localhost:1234"}, {"Host": "[::1]:7777"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    # Through the environment, as every option can be.
    environment = {"UNPAUSE_MAX_BODY_BYTES": str(LIMIT)}
    with ServerProcess(tmp_path_factory.mktemp("limits"), environment=environment) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture
def paused(client: httpx.Client) -> Json:
    run = create_run(client, "delete something")
    return read_run(client, run)


def send_raw(server: ServerProcess, head: list[str], pieces: list[bytes]) -> tuple[int, Json]:
    """Send a request by hand; return the status and the JSON of the answer.

    The server may answer, and close, before all pieces are sent.
    """
    address = httpx.URL(server.address)
    with socket.create_connection((address.host, address.port or 0), timeout=DEADLINE) as connection:
        sent = "\r\n".join([*head, f"Host: {address.host}:{address.port}", "", ""]).encode()
        answer = b""
        with suppress(ConnectionError):
            for piece in (sent, *pieces):
                connection.sendall(piece)
        # Also where it closed while something was sent: the answer has arrived before.
        with suppress(ConnectionError):
            while received := connection.recv(65536):
                answer += received
    first, _, body = answer.partition(b"\r\n\r\n")
    return int(first.split(b" ")[1]), json.loads(body)


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def bodies(run: Json) -> dict[str, tuple[str, str, bytes]]:
    """Return, for both APIs, where a continue goes, its content type, and how its body begins."""
    return {
        "agno": (continue_path(run), "application/x-www-form-urlencoded", b"stream=false&tools="),
        "codegen": (f"{CODEGEN}/resume", "application/json", b'{"agent_run_id": 1, "prompt": "'),
    }


def assert_refused(api: str, status: int, body: Json) -> None:
    text = f"Request body is larger than {LIMIT} bytes"
    expected = {"detail": text} if api == "agno" else {"message": text, "status_code": 413}
    assert (status, body) == (413, expected)


@pytest.mark.parametrize("api", ["agno", "codegen"])
def test_an_announced_body_over_the_limit_is_refused_unread(
    server: ServerProcess, client: httpx.Client, paused: Json, api: str
) -> None:
    path, content_type, _ = bodies(paused)[api]
    head = [f"POST {path} HTTP/1.1", f"Content-Type: {content_type}", "Content-Length: 99999999999"]
    assert_refused(api, *send_raw(server, head, []))
    assert read_run(client, paused) == paused


@pytest.mark.parametrize("api", ["agno", "codegen"])
def test_a_chunked_body_over_the_limit_is_refused_when_it_passes_it(
    server: ServerProcess, client: httpx.Client, paused: Json, api: str
) -> None:
    path, content_type, beginning = bodies(paused)[api]
    head = [f"POST {path} HTTP/1.1", f"Content-Type: {content_type}", "Transfer-Encoding: chunked"]
    # No last chunk: the refusal does not wait for the end of the body.
    assert_refused(api, *send_raw(server, head, [chunk(beginning), *[chunk(b"a" * 1024)] * 5]))
    assert read_run(client, paused) == paused


@pytest.mark.parametrize("api", ["agno", "codegen"])
def test_a_chunked_multipart_or_json_body_over_the_limit_is_refused_by_a_plain_client_too(
    client: httpx.Client, paused: Json, api: str
) -> None:
    path, content_type, beginning = bodies(paused)[api]
    if api == "agno":
        content_type = "multipart/form-data; boundary=edge"
        beginning = b'--edge\r\nContent-Disposition: form-data; name="tools"\r\n\r\n'
    pieces = iter([beginning, *[b"a" * 1024] * 4])
    response = client.post(path, content=pieces, headers={"Content-Type": content_type})
    assert_refused(api, response.status_code, response.json())
    assert read_run(client, paused) == paused


def test_a_chunked_body_within_the_limit_is_taken(client: httpx.Client, paused: Json) -> None:
    pieces = iter([b'{"prompt": "', b"say " + b"a" * 2048, b'"}'])
    response = client.post(CODEGEN, content=pieces, headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    done = continue_run(client, paused, confirming(paused))
    assert done.json()["status"] == "COMPLETED"


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_request_from_a_foreign_page_or_for_a_foreign_name_is_refused_and_changes_nothing(
    client: httpx.Client, paused: Json, headers: dict[str, str]
) -> None:
    data = {"tools": confirming(paused), "stream": "false"}
    agno = client.post(continue_path(paused), data=data, headers=headers)
    assert agno.status_code == 403
    assert agno.json().keys() == {"detail"}
    codegen = client.post(f"{CODEGEN}/resume", json={"agent_run_id": 1, "prompt": "go"}, headers=headers)
    assert codegen.status_code == 403
    assert codegen.json() == {"message": agno.json()["detail"], "status_code": 403}
    assert client.get("/health", headers=headers).status_code == 403
    assert read_run(client, paused) == paused


@pytest.mark.parametrize("headers", LOCAL, ids=str)
def test_a_request_from_this_machine_is_served(client: httpx.Client, headers: dict[str, str]) -> None:
    done = client.post(RUNS, data={"message": "say hello", "stream": "false"}, headers=headers)
    assert (done.status_code, done.json()["content"]) == (200, "hello")


def test_a_server_that_asks_for_tokens_has_no_foreign_names_and_asks(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, environment={"UNPAUSE_DEV": "false"}) as server, server.client() as client:
        for headers in FOREIGN:
            assert client.get("/health", headers=headers).status_code == 200
            assert client.get("/agents", headers=headers).status_code == 401
