"""A server with people, and a browser that visits its console."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it has no marker of its types
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.support.processes import ServerProcess
from tests.support.serving import settings_for
from unpause.auth.tokens import NewToken, create_token
from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.store.engine.schema import plain_connection

CHROMIUM = shutil.which("chromium")
AGENTS = Path(__file__).with_name("agents_file.py")
# A name that would be markup, and a script, if it were ever taken for one.
XSS = "<img src=x onerror=\"document.title='xss'\">"
PEOPLE: Mapping[str, tuple[str, ...]] = {
    "olga": (ADMIN,),
    "ben": (ADMIN,),
    "root": (ADMIN,),
    f"dev-1 {XSS}": DEFAULT_SCOPES,
}
DEVELOPER = f"dev-1 {XSS}"
# Milliseconds for anything that a page shows: two loaded cores.
PATIENCE = 20_000
# What a test provokes: the browser reports refused requests, and those to a server that is down.
_EXPECTED = ("Failed to load resource", "net::ERR_")


@dataclass
class Visit:
    """Somebody's page, and what went wrong on it."""

    page: Page
    errors: list[str] = field(default_factory=list)

    def axe(self) -> list[str]:
        """Return what axe-core finds wrong."""
        found = Axe().run(self.page)
        return [f"{each['id']}: {[node['html'] for node in each['nodes']]}" for each in found.response["violations"]]


@dataclass
class Console:
    """A server, its people, and a browser."""

    server: ServerProcess
    browser: Browser
    tokens: Mapping[str, str]
    visits: list[Visit] = field(default_factory=list)

    @contextmanager
    def visit(
        self, who: str | None, path: str = "/console", scheme: Literal["light", "dark"] = "light", width: int = 1280
    ) -> Iterator[Visit]:
        """Open a page as somebody, who is signed in already; fail where a script of it fails."""
        context = self.browser.new_context(
            base_url=self.server.address,
            color_scheme=scheme,
            viewport={"width": width, "height": 800},
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        if who is not None:
            self._sign_in(context, who)
        visit = Visit(context.new_page())

        def note(message: ConsoleMessage) -> None:
            if message.type == "error" and not any(text in message.text for text in _EXPECTED):
                visit.errors.append(message.text)

        visit.page.on("console", note)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.goto(path)
        try:
            yield visit
            assert visit.errors == []
        finally:
            context.close()

    def _sign_in(self, context: BrowserContext, who: str) -> None:
        headers = {"Origin": self.server.address, "X-Unpause-Console": "1"}
        response = context.request.post("/console/sign-in", data={"token": self.tokens[who]}, headers=headers)
        assert response.status == 204

    def request(self, method: str, path: str, who: str = DEVELOPER, **content: Any) -> httpx.Response:  # noqa: ANN401
        """Send a request with somebody's token."""
        with self.server.client(headers={"Authorization": f"Bearer {self.tokens[who]}"}) as client:
            response = client.request(method, path, **content)
        response.raise_for_status()
        return response

    def start(self, *calls: tuple[str, Mapping[str, object]], who: str = DEVELOPER) -> str:
        """Start a run that makes these calls, and wait until it pauses; return its id."""
        run = self.run(*calls, who=who)
        assert run["status"] == "PAUSED", run
        return str(run["run_id"])

    def run(
        self, *calls: tuple[str, Mapping[str, object]], who: str = DEVELOPER, session: str | None = None
    ) -> dict[str, Any]:
        """Start a run that makes these calls, in a session; return it once it has paused or ended."""
        form = {"message": json.dumps(calls), "stream": "false"}
        if session is not None:
            form["session_id"] = session
        run: dict[str, Any] = self.request("POST", "/agents/ops/runs", who, data=form).json()
        return run

    def status_of(self, run_id: str) -> dict[str, Any]:
        """Return the run, once it has paused again or ended."""
        self.request("GET", f"/agents/ops/runs/{run_id}/events", "root")
        found: dict[str, Any] = self.request("GET", f"/agents/ops/runs/{run_id}", "root").json()
        return found

    def path_of(self, run_id: str) -> str:
        """Return where the only request of the run has its page."""
        data = self.request("GET", "/inbox", "root", params={"who": "all", "limit": "200"}).json()["data"]
        [found] = [item for item in data if item["run_id"] == run_id]
        return f"/console/requests/{found['requirement_id']}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium; .ci/run installs Debian's")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def console(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    url = settings_for(folder).database_url
    with plain_connection(url) as connection, connection.begin():
        tokens = {
            who: create_token(
                connection, NewToken(user_id=who, scopes=scopes), Principal(1, via="cli"), datetime.now(UTC)
            )[1]
            for who, scopes in PEOPLE.items()
        }
    environment = {"UNPAUSE_DEV": "false", "UNPAUSE_RATE_LIMIT_SIGN_IN": ""}
    with ServerProcess(folder, "--agents", AGENTS, environment=environment) as server:
        yield Console(server, browser, tokens)
