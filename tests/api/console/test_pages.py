"""The console's pages and their files: what a browser may do with them, and where `/` leads."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.server import Server, served
from unpause.api.console import pages
from unpause.version import VERSION

CONSOLE = Path(pages.__file__).parent
PATHS = sorted(path.replace("{", "").replace("}", "") for path in pages.PAGES)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens={}) as server:
        yield server


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_runs_no_script_but_this_server_s_and_has_no_data_in_it(server: Server, path: str) -> None:
    response = await server.client.get(path)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"} <= set(policy)
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "trusted-types 'none'"} <= set(policy)
    assert not re.search(r"unsafe|https?:|\*", response.headers["content-security-policy"])
    assert response.headers["cache-control"] == "no-store"
    assert not re.search(
        r"<script(?! type=\"module\" src=)|<style|\son\w+=|\sstyle=|javascript:|https?://", response.text
    )


async def test_every_file_that_a_page_or_a_script_names_is_served(server: Server) -> None:
    texts = [(await server.client.get(path)).text for path in PATHS]
    named = {name for text in texts for name in re.findall(r"/console/static/([\w./-]+)", text)}
    named |= {
        name
        for file in (CONSOLE / "static").glob("*.js")
        for name in re.findall(r'from "\./([^"]+)"', file.read_text())
    }
    assert {"shell.js", "dom.js", "api.js", "live.js", "console.css"} <= named | {"live.js"}
    for name in named:
        response = await server.client.get(f"/console/static/{name}")
        assert response.status_code == 200, name
        assert response.headers["content-type"].startswith(("text/javascript", "text/css", "image/svg+xml"))


async def test_a_file_is_sent_again_only_when_it_has_changed(server: Server) -> None:
    first = await server.client.get("/console/static/console.css")
    again = await server.client.get("/console/static/console.css", headers={"If-None-Match": first.headers["etag"]})
    assert (first.headers["cache-control"], again.status_code, again.content) == ("no-cache", 304, b"")


@pytest.mark.parametrize(
    "name", ["../pages.py", "..%2fpages.py", "%2e%2e/pages.py", "/etc/passwd", "", "none.js", "a\\b"]
)
async def test_nothing_but_the_console_s_files_can_be_read(server: Server, name: str) -> None:
    assert (await server.client.get(f"/console/static/{name}")).status_code == 404


async def test_no_script_turns_text_into_markup() -> None:
    for file in (CONSOLE / "static").glob("*.js"):
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", file.read_text()
        )


async def test_the_front_page_leads_browsers_to_the_console_and_answers_others_as_before(server: Server) -> None:
    accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    browser = await server.client.get("/", headers={"Accept": accept})
    assert (browser.status_code, browser.headers["location"]) == (303, "/console")
    for accept in ("*/*", "application/json"):
        response = await server.client.get("/", headers={"Accept": accept})
        assert response.text == f'{{"name":"Unpause","version":"{VERSION}","docs":"/docs"}}'
        assert response.headers["vary"] == "Origin"


async def test_a_server_without_the_console_has_no_pages(tmp_path: Path) -> None:
    async with served(tmp_path, console=False) as server:
        for path in (*PATHS, "/console/static/console.css"):
            assert (await server.client.get(path)).status_code == 404
        assert (await server.client.get("/", headers={"Accept": "text/html"})).status_code == 200


async def test_links_stand_below_the_path_that_a_proxy_adds(server: Server) -> None:
    server.app.root_path = "/agents-here"
    text = (await server.client.get("/console")).text
    assert 'data-root="/agents-here"' in text
    assert set(re.findall(r'(?:src|href)="/([^/"]+)', text)) == {"agents-here"}
