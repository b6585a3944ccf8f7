"""Requests as HTTP permits them and few clients send them: for a whole URL, with HEAD, with two lengths, to upgrade.

A request for a whole URL is one for its path, at its host: RFC 9112, 3.2.2. Clients of proxies send such.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest

from tests.security.connecting import connected, head, wait_for_close
from tests.support.cluster import wait_until
from tests.support.processes import ServerProcess
from tests.support.tokens import first_token

ELSEWHERE = "elsewhere.example"
CREATE = "/v1/organizations/1/agent/run"
# More than a request may have that brings no pictures.
LARGE = 1100


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {
        "UNPAUSE_DEV": "false",
        "UNPAUSE_MAX_PLAIN_BODY_BYTES": "1024",
        "UNPAUSE_RATE_LIMIT_CREATE": "2/minute",
        "UNPAUSE_ACCESS_LOG": "true",
    }
    with ServerProcess(tmp_path_factory.mktemp("targets"), environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("open")) as server:
        yield server


def ask(server: ServerProcess, method: str, target: str, body: bytes = b"", **fields: str) -> tuple[int, Any, str]:
    """Return the status, the JSON and the Allow field of the answer to a request for this target."""
    sent = {"Host": "127.0.0.1", "Connection": "close", "Content-Length": str(len(body)), **fields}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in sent.items())]
    with connected(server) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        with HTTPResponse(connection, method=method) as response:
            response.begin()
            content = response.read()
            return response.status, json.loads(content) if content else None, response.headers.get("Allow", "")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("GET", "/health/?a=b", 200),
        ("GET", "/h%65alth", 200),
        ("POST", "/health", 405),
        ("GET", "", 200),
        ("GET", "/agents", 401),
        ("GET", "/v1/organizations", 401),
        ("POST", "/v1/x", 401),
        ("GET", "/%00", 400),
        ("GET", "/v1/%00", 400),
        ("POST", "//v1/x", 401),
    ],
)
@pytest.mark.parametrize("origin", ["http://elsewhere.example", "HTTPS://127.0.0.1:1", "http://[::1]"])
def test_a_whole_url_is_answered_as_its_path_is(
    server: ServerProcess, origin: str, method: str, path: str, status: int
) -> None:
    answer = ask(server, method, f"{origin}{path}")
    assert answer == ask(server, method, path or "/")
    assert answer[0] == status


def test_limits_of_bodies_and_rates_hold_for_the_path_that_is_routed(server: ServerProcess) -> None:
    token = {"Authorization": f"Bearer {first_token(server)}", "Content-Type": "application/json"}
    body = json.dumps({"prompt": "a" * LARGE}).encode()
    where = f"http://{ELSEWHERE}"
    assert ask(server, "POST", f"{where}/approvals/x/resolve", body, **token)[0] == 413
    # A run may bring pictures.
    assert [ask(server, "POST", f"{where}{CREATE}", body, **token)[0] for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (f"http://{ELSEWHERE}/agents", "127.0.0.1", 403),
        (f"http://{ELSEWHERE}/health", "127.0.0.1", 403),
        ("http://127.0.0.1/agents", ELSEWHERE, 200),
        ("http://localhost:7777/agents", "127.0.0.1", 200),
    ],
)
def test_a_server_without_tokens_looks_at_the_host_of_the_url_and_not_at_the_field(
    open_server: ServerProcess, target: str, host: str, status: int
) -> None:
    assert ask(open_server, "GET", target, Host=host)[0] == status


@pytest.mark.parametrize("target", ["http:///health", "http%3A//127.0.0.1/health", "ftp://127.0.0.1/health", "health"])
def test_what_is_no_url_of_a_host_is_no_path(server: ServerProcess, target: str) -> None:
    assert ask(server, "GET", target)[:2] == (401, {"detail": "Authorization header required"})


@pytest.mark.parametrize("path", ["/", "/health", "/ready", "/openapi.json", "/docs", "/console"])
def test_a_monitor_may_ask_with_head_and_gets_the_status_of_get(server: ServerProcess, path: str) -> None:
    assert ask(server, "HEAD", path) == (200, None, "")
    status, _, allowed = ask(server, "PUT", path)
    assert (status, allowed) == (405, "GET, HEAD")


def test_other_routes_are_only_read_with_get(server: ServerProcess) -> None:
    authorization = f"Bearer {first_token(server)}"
    assert ask(server, "HEAD", "/agents", Authorization=authorization) == (405, None, "GET")


def test_a_request_with_two_lengths_is_refused_and_nothing_after_it_is_read(server: ServerProcess) -> None:
    fields = {"Transfer-Encoding": "chunked", "Content-Length": "5"}
    smuggled = head("GET", "/health")
    with connected(server) as connection:
        connection.sendall(head("POST", CREATE, **fields) + b"0\r\n\r\n" + smuggled)
        answer = wait_for_close(connection)
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"message":"The request has both Content-Length and Transfer-Encoding","status_code":400}' in answer


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_an_offer_to_upgrade_is_ignored_and_not_logged(server: ServerProcess, protocol: str) -> None:
    name = f"upgrade-{protocol}"
    fields = {"Connection": "Upgrade, close", "Upgrade": protocol, "X-Request-ID": name}
    assert ask(server, "GET", "/health", b"", **fields)[0] == 200
    wait_until(lambda: name in server.output, "the line of the access log, behind what uvicorn would log")
    assert "upgrade request" not in server.output
