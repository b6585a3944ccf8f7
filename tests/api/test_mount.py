"""``unpause.create_app``: alone, and under an application whose own routes, middlewares and users stay as they are."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI, Request, Response
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from starlette.testclient import TestClient

from tests.support.caller import DEADLINE
from unpause import combine_lifespans, create_app
from unpause.api.mount import UnpauseApp
from unpause.errors import DatabaseInUse, InvalidSetting
from unpause.store.engine.ownership import own_database
from unpause.testing.environment import GivenSettings, migrated_sqlite_file

ADDRESS = "http://127.0.0.1"


def restart(service: str) -> str:
    """Restart a service."""
    return f"{service} is up"


def agent_named(name: str) -> Agent[None, str]:
    agent = Agent(TestModel(custom_output_text=f"done by {name}"), name=name)
    agent.tool_plain(requires_approval=True)(restart)
    return agent


def agents_api(folder: Path, name: str = "ops", **changes: Any) -> UnpauseApp:  # noqa: ANN401 - any setting
    folder.mkdir(exist_ok=True)
    file = folder / "unpause.db"
    if not file.exists():
        shutil.copyfile(migrated_sqlite_file(), file)
    usual = {"database_url": f"sqlite:///{file}", "dev": True, "first_token_file": folder / "token"}
    return create_app(GivenSettings(**{**usual, **changes}), agents=[agent_named(name)])


@asynccontextmanager
async def client_of(
    app: FastAPI | UnpauseApp, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Run the app's lifespan, and yield a client of it."""
    lifespan: AbstractAsyncContextManager[Any] = (
        app.lifespan() if isinstance(app, UnpauseApp) else app.router.lifespan_context(app)
    )
    transport = httpx.ASGITransport(app=app)
    async with lifespan, httpx.AsyncClient(transport=transport, base_url=ADDRESS, headers=headers) as client:
        yield client


def host_of(mounted: UnpauseApp, prefix: str = "/agents-api") -> FastAPI:
    host = FastAPI(lifespan=mounted.lifespan)

    @host.get("/")
    async def home(request: Request) -> dict[str, str]:
        return {"home": "the host's", "user": request.headers.get("authorization", "")}

    @host.get("/agents")
    async def own_agents() -> str:
        return "the host's"

    host.mount(prefix, mounted)
    return host


async def run_and_approve(client: httpx.AsyncClient, prefix: str, agent: str = "ops") -> dict[str, Any]:
    runs = f"{prefix}/agents/{agent}/runs"
    run = (await client.post(runs, data={"message": "go", "stream": "false"})).json()
    assert run["status"] == "PAUSED"
    tools = f'[{{"tool_call_id":"{run["tools"][0]["tool_call_id"]}","confirmed":true}}]'
    answer = await client.post(f"{runs}/{run['run_id']}/continue", data={"tools": tools, "stream": "false"})
    return dict(answer.json())


async def test_alone_it_serves_all_of_it_and_leaves_nothing_open(tmp_path: Path) -> None:
    app = agents_api(tmp_path)
    for _ in range(2):
        async with client_of(app) as client:
            assert (await run_and_approve(client, ""))["content"] == "done by ops"
            assert (await client.get("/ready")).status_code == 200
            with pytest.raises(DatabaseInUse):
                own_database(app.settings.database_url)
        lock = own_database(app.settings.database_url)
        assert lock is not None
        lock.release()


# Also where the prefix is the beginning of a route's own path.
@pytest.mark.parametrize("prefix", ["/agents-api", "/agents", "/v1/inner"])
async def test_under_a_host_routes_links_and_documents_have_its_prefix(tmp_path: Path, prefix: str) -> None:
    async with client_of(host_of(agents_api(tmp_path), prefix)) as client:
        run = await run_and_approve(client, prefix)
        assert run["content"] == "done by ops"
        # With a trailing slash, as AgentOS has it.
        assert (await client.get(f"{prefix}/agents/")).json()[0]["id"] == "ops"
        await client.post(f"{prefix}/agents/ops/runs", data={"message": "go", "stream": "false"})
        created = await client.post(f"{prefix}/v1/organizations/1/agent/run", json={"prompt": "go"})
        assert created.json()["web_url"].startswith(f"{ADDRESS}{prefix}/")
        items = (await client.get(f"{prefix}/inbox")).json()["data"]
        assert {item["url"].startswith(f"{ADDRESS}{prefix}/console/") for item in items} == {True}
        missing = await client.get(f"{prefix}/v1/organizations/1/agent/run/999999")
        assert (missing.status_code, missing.json()["status_code"]) == (404, 404)


# It writes the document, which takes seconds.
@pytest.mark.full
async def test_the_document_names_the_prefix_as_its_server(tmp_path: Path) -> None:
    mounted = agents_api(tmp_path)
    async with client_of(host_of(mounted)) as client:
        document = (await client.get("/agents-api/openapi.json")).json()
        assert document["servers"] == [{"url": "/agents-api"}]
        assert "/agents/{agent_id}/runs" in document["paths"]
        assert "/agents-api/agents" not in (await client.get("/openapi.json")).json()["paths"]
        # The same application, reached without the prefix.
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=mounted), base_url=ADDRESS) as direct:
            assert "servers" not in (await direct.get("/openapi.json")).json()


async def test_pages_of_the_console_stay_below_the_prefix(tmp_path: Path) -> None:
    async with client_of(host_of(agents_api(tmp_path))) as client:
        page = await client.get("/agents-api/console")
        links = re.findall(r'(?:src|href)="(/[^"]+)', page.text)
        assert links
        assert {link.split("/")[1] for link in links} == {"agents-api"}
        for link in links:
            assert (await client.get(link)).status_code == 200, link
        as_browser = {"Accept": "text/html"}
        assert (await client.get("/agents-api/", headers=as_browser)).headers["location"] == "/agents-api/console"
        run = await client.get("/agents-api/agents/ops/runs/some-run", headers=as_browser)
        assert run.headers["location"] == "/agents-api/console/runs/some-run"
        assert '"/agents-api/openapi.json"' in (await client.get("/agents-api/docs")).text


@pytest.mark.parametrize(
    ("address", "name", "own"),
    [(ADDRESS, "unpause_console", ""), ("https://example.com", "__Secure-unpause_console", "; Secure")],
)
async def test_a_console_is_signed_in_to_below_its_prefix_only(
    tmp_path: Path, address: str, name: str, own: str
) -> None:
    async with client_of(host_of(agents_api(tmp_path, dev=False))) as client:
        token = (tmp_path / "token").read_text().strip()
        headers = {"Origin": address, "X-Unpause-Console": "1"}
        url = f"{address}/agents-api/console"
        signed_in = await client.post(f"{url}/sign-in", json={"token": token}, headers=headers)
        assert signed_in.status_code == 204, signed_in.text
        cookie = signed_in.headers["set-cookie"]
        assert cookie.startswith(f"{name}=")
        assert {"Path=/agents-api", "HttpOnly"} <= set(cookie.split("; "))
        assert own in cookie
        assert (await client.get(f"{address}/agents-api/me")).json()["expires_at"] is not None
        assert "cookie" not in (await client.get(f"{address}/")).request.headers
        out = await client.post(f"{url}/sign-out", headers=headers)
        assert "Path=/agents-api" in out.headers["set-cookie"]
        assert (await client.get(f"{address}/agents-api/me")).status_code == 401


async def test_the_hosts_routes_users_middlewares_and_errors_are_its_own(tmp_path: Path) -> None:
    host = host_of(agents_api(tmp_path, dev=False))
    seen: list[tuple[str, str, bool]] = []

    @host.middleware("http")
    async def note(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        request.state.principal = "the host's user"
        response = await call_next(request)
        seen.append((request.url.path, request.state.principal, request.app is host))
        response.headers["x-host"] = "1"
        return response

    @host.get("/fails")
    async def fail() -> None:
        raise InvalidSetting("the host's own use of it")

    @host.exception_handler(404)
    async def not_found(_: Request, __: Exception) -> Response:
        return Response("the host's 404", 404)

    async with client_of(host, headers={"Authorization": "Basic the-hosts"}) as client:
        assert (await client.get("/")).json() == {"home": "the host's", "user": "Basic the-hosts"}
        assert (await client.get("/agents")).json() == "the host's"
        assert (await client.get("/nothing")).text == "the host's 404"
        refused = await client.get("/agents-api/agents")
        assert (refused.status_code, refused.headers["x-host"]) == (401, "1")
        token = (tmp_path / "token").read_text().strip()
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await client.get("/agents-api/agents", headers=bearer)).status_code == 200
        lost = await client.get("/agents-api/nothing", headers=bearer)
        assert lost.json()["detail"] == "Not Found"
        with pytest.raises(InvalidSetting):
            await client.get("/fails")
    assert {(user, is_own) for _, user, is_own in seen} == {("the host's user", True)}
    assert "/agents-api/agents" in {path for path, *_ in seen}


async def test_two_applications_with_two_databases_are_two_servers(tmp_path: Path) -> None:
    first, second = agents_api(tmp_path / "one", "first"), agents_api(tmp_path / "two", "second")
    order: list[str] = []

    @asynccontextmanager
    async def own(_: object) -> AsyncIterator[dict[str, str]]:
        order.append("begun")
        yield {"pool": "the host's"}
        order.append("ended")

    host = FastAPI(lifespan=combine_lifespans(own, first.lifespan, second.lifespan))
    host.mount("/one", first)
    host.mount("/two", second)
    async with client_of(host) as client:
        assert (await run_and_approve(client, "/one", "first"))["content"] == "done by first"
        assert (await client.get("/two/agents")).json()[0]["id"] == "second"
        assert (await client.get("/two/runs")).json()["data"] == []
        assert len((await client.get("/one/runs")).json()["data"]) == 1
    assert order == ["begun", "ended"]


async def test_one_database_is_for_one_application(tmp_path: Path) -> None:
    first, second = agents_api(tmp_path), agents_api(tmp_path)
    async with first.lifespan():
        with pytest.raises(DatabaseInUse):
            await second.lifespan().__aenter__()
        with pytest.raises(RuntimeError, match="one host only"):
            await first.lifespan().__aenter__()


async def test_a_stream_ends_with_the_lifespan_where_its_host_keeps_the_connection(tmp_path: Path) -> None:
    mounted = agents_api(tmp_path)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(mounted), base_url=ADDRESS)
    async with client, asyncio.timeout(DEADLINE):
        async with mounted.lifespan():
            run = (await client.post("/agents/ops/runs", data={"message": "go", "stream": "false"})).json()
            following = asyncio.create_task(client.get(f"/agents/ops/runs/{run['run_id']}/events?follow=true"))
            # Answered after the stream has begun.
            await client.get("/inbox")
            assert not following.done()
        assert "retry:" in (await following).text


async def test_a_host_that_does_not_run_the_lifespan_is_told_so(tmp_path: Path) -> None:
    host = FastAPI()
    host.mount("/agents-api", agents_api(tmp_path))
    async with client_of(host) as client:
        answer = await client.get("/agents-api/agents")
        assert answer.status_code == 503
        assert "FastAPI(lifespan=agents_api.lifespan)" in answer.json()["detail"]


async def test_an_open_application_answers_this_machine_only(tmp_path: Path) -> None:
    app = agents_api(tmp_path)
    async with app.lifespan():
        for client, status in (("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 403)):
            transport = httpx.ASGITransport(app=app, client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as caller:
                assert (await caller.get("/agents")).status_code == status


def test_a_test_client_starts_it_again_and_again(tmp_path: Path) -> None:
    host = host_of(agents_api(tmp_path))
    for _ in range(2):
        with TestClient(host, base_url=ADDRESS) as client:
            assert client.get("/agents-api/agents").json()[0]["id"] == "ops"


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({}, InvalidSetting, "none to serve"),
        ({"agents": [agent_named("ops"), "agents.py"]}, InvalidSetting, "two applications"),
        ({"agents": [agent_named("ops")], "databse_url": "x"}, TypeError, "did you mean database_url?"),
        ({"agents": [agent_named("ops")], "history_runs": "many"}, InvalidSetting, "history_runs: "),
        ({"agents": [agent_named("ops")], "reload": True}, InvalidSetting, "reload loads modules and files"),
        ({"agents": [agent_named("ops")], "encryption_key": "short"}, InvalidSetting, "encryption_key"),
        ({"agents": ["x.py"], "settings": GivenSettings(), "port": 1}, TypeError, "one or the other"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_opened(
    options: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=re.escape(reason)):
        create_app(**options)


async def test_agents_that_cannot_be_served_are_refused_and_leave_nothing_open(tmp_path: Path) -> None:
    settings = agents_api(tmp_path).settings
    app = create_app(settings, agents=[Agent(TestModel())])
    with pytest.raises(InvalidSetting, match="with a name"):
        await app.lifespan().__aenter__()
    lock = own_database(settings.database_url)
    assert lock is not None
    lock.release()


async def test_it_logs_through_the_hosts_loggers_without_secrets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configured = structlog.get_config()
    structlog.reset_defaults()
    caplog.set_level(logging.INFO, "unpause")
    try:
        key = "mQ0C8bIeIxmuxW8d5bJYt-9M2jzgZQ9vPsSbdXmvkzE="
        async with client_of(agents_api(tmp_path, encryption_key=key)) as client:
            await run_and_approve(client, "")
            structlog.get_logger("unpause.test").warning("100% of a key", key=key)
    finally:
        structlog.configure(**configured)
    assert any(record.name.startswith("unpause.") for record in caplog.records)
    assert any("100% of a key" in record.getMessage() for record in caplog.records)
    assert key not in caplog.text
