"""Who asks is looked at before anything else of a request, and browsers can read that they were refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.access.route_table import CODEGEN_UNKNOWN, MISSING, TABLE, scope_missing
from tests.support.server import Server, served
from tests.support.serving import serving

if TYPE_CHECKING:
    from starlette.types import Message

PAGE = "http://localhost:3000"
LIMIT = 4096
RUN = "/agents/toolbox/runs"
CODEGEN_RUN = "/v1/organizations/1/agent/run"
BODIES: dict[str, dict[str, Any]] = {
    "too large": {"content": b"x" * (LIMIT + 1)},
    "no form": {"data": {"message": "", "stream": "perhaps"}},
    "no json": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "none": {},
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens={}, max_body_bytes=LIMIT) as server:
        yield server


def with_body() -> list[str]:
    """Return the routes that are sent something, and ask for a scope."""
    return sorted(route for route, row in TABLE.items() if row.scopes and not route.startswith("GET "))


async def ask_unread(server: Server, route: str, authorization: str | None) -> tuple[int, bytes]:
    """Send the head of a request whose body must not be asked for; return status and body of the answer."""
    method, _, path = route.partition(" ")
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was asked for")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"10")]
    if authorization is not None:
        headers.append((b"authorization", authorization.encode()))
    filled = path.replace("{org_id}", "1").replace("{agent_id}", "toolbox").replace("{agent_run_id}", "1")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": filled,
        "raw_path": filled.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await server.app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_401_comes_before_whatever_else_is_wrong(server: Server) -> None:
    for body in BODIES.values():
        paths = [
            ("POST", RUN, MISSING),
            ("POST", "/agents/nobody/runs", MISSING),
            ("POST", "/agents/toolbox/runs/nothing/continue", MISSING),
            ("POST", "/nowhere", MISSING),
            ("PUT", "/agents", MISSING),
            ("GET", "/sessions?limit=many", MISSING),
            ("POST", "//agents/toolbox/runs", MISSING),
            ("POST", "/docs/x", MISSING),
            ("POST", CODEGEN_RUN, CODEGEN_UNKNOWN),
            ("POST", "/v1/organizations/99/agent/run", CODEGEN_UNKNOWN),
            ("POST", "/v1/organizations/many/agent/run/resume", CODEGEN_UNKNOWN),
            ("GET", "/v1/nowhere", CODEGEN_UNKNOWN),
        ]
        for method, path, answer in paths:
            answer.compare(await server.client.request(method, path, **body), {})


@pytest.mark.parametrize("wrong", sorted(set(BODIES) - {"too large"}))
async def test_403_comes_before_what_is_wrong_with_a_body_or_not_there(server: Server, wrong: str) -> None:
    person = await server.add_user(1, "alice", "approvals:read")
    for path in (RUN, "/agents/nobody/runs", "/agents/toolbox/runs/nothing/continue", CODEGEN_RUN):
        response = await person.request("POST", path, **BODIES[wrong])
        scope_missing(path, "agents:run").compare(response, {})


@pytest.mark.parametrize("route", with_body())
async def test_nothing_of_a_body_is_read_before_it_is_known_who_asks_and_whether_they_may(
    server: Server, route: str
) -> None:
    person = await server.add_user(1, "alice", "finance:approve")
    assert (await ask_unread(server, route, None))[0] == 401
    assert (await ask_unread(server, route, "Bearer garbage"))[0] == 401
    assert (await ask_unread(server, route, person.authorization))[0] == 403


async def test_paths_that_ask_nobody_are_no_way_around(server: Server) -> None:
    for path in ("/docs/../agents", "/health/agents", "/openapi.json/", "/docs/", "/health//", "/%2e/agents"):
        answer = await server.client.get(path)
        assert answer.status_code in {200, 401}, path
        assert "toolbox" not in answer.text or path == "/openapi.json/"
    # A path that begins with a public one is not public.
    assert (await server.client.get("/health/agents")).status_code == 401
    assert (await server.client.get("/healthz")).status_code == 401


async def test_refusals_can_be_read_by_pages_of_allowed_origins(server: Server) -> None:
    lacking = (await server.add_user(1, "alice", "approvals:read")).authorization
    for authorization, status in [("", 401), ("Bearer garbage", 401), (lacking, 403)]:
        for path in (RUN, CODEGEN_RUN):
            headers = {"Authorization": authorization, "Origin": PAGE}
            response = await server.client.post(path, headers=headers)
            assert response.status_code == status
            assert response.headers["access-control-allow-origin"] == PAGE
            assert response.headers["access-control-allow-credentials"] == "true"
            assert response.headers["access-control-expose-headers"] == "*"
            assert "origin" in response.headers["vary"].lower()
            foreign = await server.client.post(path, headers={**headers, "Origin": "https://evil.example"})
            assert foreign.status_code == status
            assert "access-control-allow-origin" not in foreign.headers


async def test_the_control_plane_of_agentos_may_call_a_server_that_asks_for_tokens(server: Server) -> None:
    headers = {"Origin": "https://os.agno.com", "Access-Control-Request-Method": "POST"}
    response = await server.client.options(RUN, headers=headers)
    assert response.headers["access-control-allow-origin"] == "https://os.agno.com"


async def test_a_preflight_needs_no_token(server: Server) -> None:
    for path in (RUN, CODEGEN_RUN, "/approvals", "/nowhere"):
        requested = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-any"}
        response = await server.client.options(path, headers={"Origin": PAGE, **requested})
        assert (response.status_code, response.text) == (200, "OK")
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["access-control-allow-credentials"] == "true"
        assert response.headers["access-control-max-age"] == "600"
        assert response.headers["access-control-allow-methods"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"
        assert response.headers["access-control-allow-headers"] == "authorization,x-any"
        foreign = await server.client.options(path, headers={"Origin": "https://evil.example", **requested})
        assert foreign.status_code == 400
        assert "access-control-allow-origin" not in foreign.headers


async def test_options_that_are_no_preflight_need_a_token(server: Server) -> None:
    assert (await server.client.options("/agents")).status_code == 401
    assert (await server.client.options("/agents", headers={"Origin": PAGE})).status_code == 401


async def test_a_server_that_asks_nobody_answers_pages_of_this_machine_from_any_port(tmp_path: Path) -> None:
    ours = ("http://localhost:5173", "http://127.0.0.1:8000", "https://[::1]:1", "http://localhost", PAGE)
    foreign = ("https://evil.example", "http://localhost.evil.example", "http://127.0.0.1.evil.example:80", "null")
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-any"}
    async with serving(tmp_path) as client:
        for origin in ours:
            answer = await client.get("/agents", headers={"Origin": origin})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
            answer = await client.options("/agents", headers={"Origin": origin, **preflight})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
        for origin in foreign:
            for answer in (
                await client.get("/agents", headers={"Origin": origin}),
                await client.options("/agents", headers={"Origin": origin, **preflight}),
            ):
                assert answer.status_code == 403
                assert "access-control-allow-origin" not in answer.headers
    async with served(tmp_path, tokens={}) as server:
        answer = await server.client.get("/agents", headers={"Origin": "http://localhost:5173"})
        assert "access-control-allow-origin" not in answer.headers, "with tokens only the origins of the settings"
