"""What one token or one organization may have of a server process, and what its answers tell browsers and proxies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.security.connecting import connected, head, read_answer
from tests.support.processes import DEADLINE, Barrier, ServerProcess
from tests.support.tokens import first_token, new_token, proof

RUNS = "/agents/scripted/runs"
CODEGEN = "/v1/organizations/1/agent/run"
MOST = 2
PROXY = "127.0.0.2"
HUGE = "1" + "0" * 4400
DEEP = "[" * 5000 + "]" * 5000

Headers = dict[str, str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {
        "UNPAUSE_DEV": "false",
        "UNPAUSE_MAX_STREAMS": str(MOST),
        "UNPAUSE_MAX_UNFINISHED": "4",
        "UNPAUSE_MAX_TOOLS": "3",
        "UNPAUSE_MAX_JSON_CHARS": "1000",
        "UNPAUSE_MAX_BODY_BYTES": "1000000",
        "UNPAUSE_TRUSTED_PROXIES": PROXY,
        "UNPAUSE_RATE_LIMIT_CREATE": "",
        "UNPAUSE_RATE_LIMIT_READ": "",
    }
    with ServerProcess(tmp_path_factory.mktemp("limits"), environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def admin(server: ServerProcess) -> Headers:
    return proof(first_token(server))


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> Headers:
    return proof(new_token(server, "--user", "anna"))


@pytest.fixture
def client(server: ServerProcess, token: Headers) -> Iterator[httpx.Client]:
    with server.client(headers=token) as client:
        yield client


def once(look: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """Ask again and again until the answer has the status."""
    until = time.monotonic() + DEADLINE
    while (response := look()).status_code != status and time.monotonic() < until:
        time.sleep(0.05)
    assert response.status_code == status, response.text
    return response


def paused(client: httpx.Client) -> dict[str, Any]:
    response = client.post(RUNS, data={"message": "delete something", "stream": "false"})
    assert response.status_code == 200, response.text
    run: dict[str, Any] = response.json()
    return run


def test_a_token_has_so_many_open_streams_and_gets_them_back(
    server: ServerProcess, client: httpx.Client, admin: Headers
) -> None:
    with Barrier(server.folder, "streams") as door, ExitStack() as streams:
        for _ in range(MOST):
            form = {"message": "think streams: say hi", "stream": "true"}
            streams.enter_context(client.stream("POST", RUNS, data=form))
            door.wait_for_arrival()
        form = {"message": "say hi", "stream": "true"}
        refused = client.post(RUNS, data=form)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert refused.json().keys() == {"detail"}
        # It is the token that has too many, and streams that it has too many of.
        assert client.post(RUNS, data=form, headers=admin).status_code == 200
        assert client.get("/agents").status_code == 200
        assert client.get("/health").status_code == 200
        streams.close()
        once(lambda: client.post(RUNS, data=form), 200)
        for _ in range(MOST):
            door.let_go()


def test_an_organization_has_so_many_unfinished_runs(server: ServerProcess, client: httpx.Client) -> None:
    with Barrier(server.folder, "unfinished") as door:
        form = {"message": "think unfinished: say hi", "background": "true", "stream": "false"}
        once(lambda: client.post(RUNS, data={"message": "say free", "stream": "false"}), 200)
        accepted = [client.post(RUNS, data=form).status_code for _ in range(4)]
        assert accepted == [202] * 4
        for refused, shape in (
            (client.post(RUNS, data=form), {"detail"}),
            (client.post(CODEGEN, json={"prompt": "say hi"}), {"message", "status_code"}),
        ):
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json().keys() == shape
            assert "unfinished" in refused.text
        for _ in range(4):
            door.let_go()
        once(lambda: client.post(RUNS, data={"message": "say hi", "stream": "false"}), 200)


def test_a_continue_has_so_many_tools_and_one_too_many_changes_nothing(client: httpx.Client) -> None:
    run = paused(client)
    [tool] = run["tools"]
    tools = [{**tool, "confirmed": True}, *({"tool_call_id": f"other-{number}"} for number in range(3))]
    path = f"{RUNS}/{run['run_id']}"
    refused = client.post(f"{path}/continue", data={"tools": json.dumps(tools), "stream": "false"})
    assert (refused.status_code, refused.json()) == (400, {"detail": "tools has 4 items; 3 may be sent at a time"})
    assert client.get(path).json()["status"] == "PAUSED"
    done = client.post(f"{path}/continue", data={"tools": json.dumps(tools[:1]), "stream": "false"})
    assert done.json()["status"] == "COMPLETED"


@pytest.mark.parametrize("field", ["session_state", "dependencies", "metadata"])
def test_json_that_is_only_kept_has_so_many_characters(client: httpx.Client, field: str) -> None:
    long = {"a": "b" * 1000}
    form = {"message": "say hi", "stream": "false", field: json.dumps(long)}
    refused = client.post(RUNS, data=form)
    assert (refused.status_code, refused.json()) == (
        400,
        {"detail": f"{field} is longer than 1000 characters of JSON"},
    )
    if field == "metadata":
        refused = client.post(CODEGEN, json={"prompt": "say hi", "metadata": long})
        assert (refused.status_code, refused.json()["status_code"]) == (400, 400)


def test_a_body_that_is_too_large_is_refused_and_a_strangers_is_not_even_read(
    server: ServerProcess, client: httpx.Client, token: Headers
) -> None:
    length = {"Content-Length": "99999999999"}
    for fields, status in ((token, b"413"), ({}, b"401")):
        with connected(server) as connection:
            connection.sendall(head("POST", CODEGEN, **fields, **length))
            assert read_answer(connection).startswith(b"HTTP/1.1 " + status)
    assert client.post(CODEGEN, content=b"a" * 1_000_001).status_code == 413


STRANGE_JSON = [
    *(DEEP, '{"a":' * 5000 + "1" + "}" * 5000, HUGE, f'{{"a": {HUGE}}}', "1e999999", '{"a": -1e400}'),
    *("1" * 400 + ".0", '"\\ud800"', '{"a": "\\ud800"}', "NaN", '{"a": Infinity}'),
]


@pytest.mark.parametrize("text", STRANGE_JSON, ids=lambda text: f"{text[:8]}…")
def test_strange_json_is_refused_and_never_a_failure_of_the_server(client: httpx.Client, text: str) -> None:
    run = paused(client)
    path = f"{RUNS}/{run['run_id']}"
    for field in ("session_state", "dependencies", "metadata", "images", "input_files"):
        form = {"message": "say hi", "stream": "false", field: text}
        assert client.post(RUNS, data=form).status_code == 400
    tools = json.dumps(run["tools"]).replace('"confirmed": null', f'"confirmed": {text}')
    for sent in (text, f"[{text}]", tools, f'[{{"tool_call_id": "a", "result": {text}}}]'):
        assert client.post(f"{path}/continue", data={"tools": sent, "stream": "false"}).status_code == 400
    bodies = [
        text,
        f'{{"prompt": {text}}}',
        f'{{"prompt": "say hi", "repo_id": {text}}}',
        f'{{"agent_run_id": {text}, "prompt": ""}}',
    ]
    for body in bodies:
        for url in (CODEGEN, f"{CODEGEN}/resume"):
            refused = client.post(url, content=body.encode(), headers={"Content-Type": "application/json"})
            assert 400 <= refused.status_code < 500, (url, body[:50], refused.text)
    assert client.get(path).json()["status"] == "PAUSED"


@pytest.mark.parametrize("number", [HUGE, "-1", "1e9", "9" * 30, "%EF%BC%91"])
def test_strange_numbers_in_an_address_are_refused(client: httpx.Client, number: str) -> None:
    paths = [
        f"/v1/organizations/{number}/agent/run/1",
        f"{CODEGEN}/{number}",
        f"/v1/organizations/1/agent/runs?limit={number}",
        f"/sessions?page={number}&limit={number}",
        f"/approvals?page={number}",
    ]
    for path in paths:
        assert 400 <= client.get(path).status_code < 500, path[:60]


@pytest.mark.parametrize("kind", ["fields", "files"])
def test_a_form_of_too_many_parts_is_refused(client: httpx.Client, kind: str) -> None:
    part = '--edge\r\nContent-Disposition: form-data; name="files"{}\r\n\r\na\r\n'
    parts = part.format('; filename="a.txt"' if kind == "files" else "") * 1001
    content = f"{parts}--edge--\r\n".encode()
    refused = client.post(RUNS, content=content, headers={"Content-Type": "multipart/form-data; boundary=edge"})
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("Too many ")


SAFE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


def test_every_answer_tells_browsers_what_it_is_not_for(server: ServerProcess, client: httpx.Client) -> None:
    answers = {
        200: client.get("/agents"),
        400: client.get("/agents?a=%00"),
        401: httpx.get(f"{server.address}/agents", trust_env=False),
        404: client.get("/nowhere"),
        405: client.put("/agents"),
        413: client.post(CODEGEN, content=b"a" * 1_000_001),
        422: client.post(CODEGEN, json={}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert {name: answer.headers[name] for name in SAFE} == SAFE
        assert "strict-transport-security" not in answer.headers
        assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/redoc", "/redoc/"])
def test_the_pages_of_documentation_may_load_what_they_need(server: ServerProcess, path: str) -> None:
    with server.client() as client:
        page = client.get(path)
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")
        assert "<script" in page.text
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "://" not in policy
        assert {name: page.headers[name] for name in SAFE} == SAFE
        assert client.get("/openapi.json").json()["info"]["title"] == "Unpause"


@pytest.mark.parametrize(
    ("source", "proto", "expected"),
    [
        (PROXY, "https", True),
        (PROXY, "http", False),
        ("127.0.0.1", "https", False),
        ("127.0.0.3", "https", False),
    ],
)
def test_only_a_trusted_proxy_can_say_that_the_client_came_over_tls(
    server: ServerProcess, source: str, proto: str, *, expected: bool
) -> None:
    with connected(server, source) as connection:
        connection.sendall(head("GET", "/health", **{"X-Forwarded-Proto": proto, "Connection": "close"}))
        answer = read_answer(connection).lower()
    assert answer.startswith(b"http/1.1 200")
    assert (b"strict-transport-security: max-age=31536000" in answer) is expected


@pytest.mark.parametrize(
    ("source", "forwarded", "address"),
    [
        (PROXY, "203.0.113.9", "203.0.113.9"),
        # What the client itself said stands before what the proxy adds.
        (PROXY, "198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (PROXY, "203.0.113.9:1234", "203.0.113.9"),
        (PROXY, "[2001:db8::9]:1234", "2001:db8::9"),
        ("127.0.0.1", "203.0.113.9", "127.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_can_say_which_address_the_client_has(
    server: ServerProcess, admin: Headers, source: str, forwarded: str, address: str
) -> None:
    with server.client(headers=admin) as client:
        run = paused(client)
        path = f"{RUNS}/{run['run_id']}/cancel"
        with connected(server, source) as connection:
            fields = {**admin, "X-Forwarded-For": forwarded, "Content-Length": "0", "Connection": "close"}
            connection.sendall(head("POST", path, **fields))
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
        told = client.get("/audit").json()
    entries = told["data"] if isinstance(told, dict) else told
    found = [entry["address"] for entry in entries if entry["run_id"] == run["run_id"]]
    assert found == [address]


def test_proxies_are_named_by_address(tmp_path: Path) -> None:
    for name in ("proxy.example", "10.0.0.1/8", "*,10.0.0.1"):
        environment = {"UNPAUSE_TRUSTED_PROXIES": name}
        with pytest.raises(AssertionError, match="trusted_proxies"), ServerProcess(tmp_path, environment=environment):
            pass
