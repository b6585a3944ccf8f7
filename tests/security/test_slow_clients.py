"""Clients that hold on to connections or send without end: they are cut off, and cost no memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

from tests.security.connecting import (
    connected,
    flood,
    head,
    read_answer,
    resident_bytes,
    trickle,
    wait_for_close,
)
from tests.support.processes import ServerProcess
from tests.support.tokens import new_token, proof

REQUEST_SECONDS = 1.5
MEBIBYTE = 1024 * 1024
CODEGEN = "/v1/organizations/1/agent/run"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {"UNPAUSE_REQUEST_SECONDS": str(REQUEST_SECONDS), "UNPAUSE_DEV": "false"}
    with ServerProcess(tmp_path_factory.mktemp("slow"), environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> dict[str, str]:
    return proof(new_token(server, "--user", "anna"))


@pytest.fixture(autouse=True)
def _still_serves(server: ServerProcess) -> Iterator[None]:
    yield
    with server.client() as client:
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("beginning", [b"", b"GET ", b"GET /health HTTP/1.1\r\nX: "])
def test_a_client_that_sends_its_head_byte_by_byte_is_cut_off(server: ServerProcess, beginning: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(beginning)
        assert b"200" not in trickle(connection)


def test_a_client_that_says_nothing_is_cut_off(server: ServerProcess) -> None:
    with connected(server) as connection:
        assert wait_for_close(connection) == b""


@pytest.mark.parametrize("path", ["/agents/scripted/runs", CODEGEN])
def test_a_body_that_comes_byte_by_byte_is_answered_with_408(
    server: ServerProcess, token: dict[str, str], path: str
) -> None:
    fields = {"Content-Type": "application/json" if path == CODEGEN else "application/x-www-form-urlencoded"}
    with connected(server) as connection:
        connection.sendall(head("POST", path, **token, **fields, **{"Content-Length": "1000000"}))
        first, _, body = trickle(connection).partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in first.lower()
    text = f"The request took longer than {REQUEST_SECONDS:g} seconds to arrive"
    expected = {"message": text, "status_code": 408} if path == CODEGEN else {"detail": text}
    assert json.loads(body) == expected


@pytest.mark.parametrize("length", [{"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}])
def test_a_stream_that_began_before_its_body_was_there_ends_with_it_and_logs_no_traceback(
    server: ServerProcess, token: dict[str, str], length: dict[str, str]
) -> None:
    with connected(server) as connection:
        connection.sendall(head("GET", "/inbox/events", **token, **length))
        answer = wait_for_close(connection)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n0\r\n\r\n")
    assert "Traceback" not in server.output


@pytest.mark.parametrize("length", [{"Content-Length": "1000000"}, {"Transfer-Encoding": "chunked"}])
def test_whoever_is_refused_early_cannot_hold_the_connection_with_the_rest(
    server: ServerProcess, length: dict[str, str]
) -> None:
    with connected(server) as connection:
        connection.sendall(head("POST", CODEGEN, **length))
        assert read_answer(connection).startswith(b"HTTP/1.1 401 ")
        trickle(connection, b"a" if "Content-Length" in length else b"1\r\na\r\n")


@pytest.mark.parametrize("left", [b"\r\n", b"a", b"GET"])
def test_a_little_more_after_an_answer_does_not_keep_the_connection_for_ever(
    server: ServerProcess, left: bytes
) -> None:
    """Anything that comes ends uvicorn's own waiting for the next request."""
    with connected(server) as connection:
        connection.sendall(head("POST", CODEGEN, **{"Content-Length": "10"}))
        read_answer(connection)
        connection.sendall(left)
        wait_for_close(connection)


def test_a_connection_still_serves_one_request_after_another(server: ServerProcess, token: dict[str, str]) -> None:
    with server.client(headers=token) as client:
        addresses = set()
        for _ in range(3):
            response = client.post("/agents/scripted/runs", data={"message": "say hi", "stream": "false"})
            assert response.status_code == 200
            addresses.add(response.extensions["network_stream"].get_extra_info("client_addr"))
    assert len(addresses) == 1


# Where it begins, and what follows without end.
ENDLESS = {
    "a header": (b"GET /health HTTP/1.1\r\nX: ", b"a"),
    "headers": (b"GET /health HTTP/1.1\r\n", b"x:y\r\n"),
    "an address": (b"GET /", b"a"),
    "a chunk's extension": (head("POST", "/health", **{"Transfer-Encoding": "chunked"}) + b"5;", b"a"),
    "a trailer": (head("POST", "/health", **{"Transfer-Encoding": "chunked"}) + b"0\r\nX: ", b"a"),
    "trailers": (head("POST", "/health", **{"Transfer-Encoding": "chunked"}) + b"0\r\n", b"x:y\r\n"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads the process's memory from /proc")
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_cut_off_without_filling_memory(server: ServerProcess, kind: str) -> None:
    beginning, piece = ENDLESS[kind]
    before = resident_bytes(server)
    for _ in range(3):
        with connected(server) as connection:
            connection.sendall(beginning)
            # What was sent beyond the limit waited in the buffers of the connection.
            assert flood(connection, piece, 64 * MEBIBYTE) < 32 * MEBIBYTE
    assert resident_bytes(server) - before < 64 * MEBIBYTE
