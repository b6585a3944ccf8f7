"""The pages of the API's reference: every asset is this server's, they work in a browser, and so does Authorize."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

from tests.support.processes import DEADLINE, ServerProcess

PAGES = ("/docs", "/redoc")
CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("reference")) as server:
        yield server


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_asset_that_a_page_names_comes_from_this_server(server: ServerProcess, page: str, slash: str) -> None:
    with server.client() as client:
        text = client.get(page + slash).text
        assets = re.findall(r'(?:src|href|data-document|spec-url)="([^"]*)"', text)
        assert "://" not in text
        fetched = [asset for asset in assets if asset != "data:,"]
        assert "/openapi.json" in fetched
        for asset in fetched:
            assert asset.startswith("/")
            assert client.get(asset).status_code == 200, asset


def test_the_assets_are_loaded_only_when_they_are_requested() -> None:
    code = "import sys, unpause.api.app; print(sorted(name for name in sys.modules if 'standalone_docs' in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@contextmanager
def opened(address: str, path: str) -> Iterator[tuple[Page, list[str]]]:
    """Open the page in a browser; yield it and what went wrong: requests to other servers, and errors it reports."""
    wrong: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(1_000 * DEADLINE)
        page.on("console", note)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda sent: wrong.append(sent.url) if not _is_own(sent.url, address) else None)
        page.goto(address + path)
        try:
            yield page, wrong
        finally:
            browser.close()


def _is_own(url: str, address: str) -> bool:
    return url.startswith((f"{address}/", "data:", "blob:"))


@pytest.mark.full
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; .ci/run installs Debian's")
class TestInABrowser:
    """In headless Chromium."""

    def test_swagger_ui_shows_every_tag_in_order(self, server: ServerProcess) -> None:
        with opened(server.address, "/docs") as (page, wrong):
            page.wait_for_selector(".opblock-tag")
            shown = page.eval_on_selector_all(".opblock-tag", "tags => tags.map(tag => tag.dataset.tag)")
        document = httpx.get(f"{server.address}/openapi.json").json()
        assert shown == [tag["name"] for tag in document["tags"]]
        assert wrong == []

    def test_redoc_shows_the_operations(self, server: ServerProcess) -> None:
        with opened(server.address, "/redoc") as (page, wrong):
            page.wait_for_selector("text=Codegen API")
            page.wait_for_selector('[id="tag/Agents/operation/create_agent_run"]', state="attached")
        assert wrong == []

    def test_authorize_sends_the_token_with_the_requests_of_both_apis(self, server: ServerProcess) -> None:
        seen: dict[str, str | None] = {}
        paths = httpx.get(f"{server.address}/openapi.json").json()["paths"]
        with opened(server.address, "/docs") as (page, _):
            page.on("request", lambda sent: seen.update({sent.url: sent.headers.get("authorization")}))
            page.click("button.authorize")
            page.fill(".auth-container input", "a-token")
            page.click(".auth-btn-wrapper button[type=submit]")
            page.click(".btn-done")
            for path in ("/teams", "/v1/users/me"):
                page.click(f'[data-tag="{paths[path]["get"]["tags"][0]}"]')
                block = page.locator(".opblock", has=page.locator(f'[data-path="{path}"]'))
                block.locator(".opblock-summary-control").click()
                block.locator(".try-out__btn").click()
                block.locator(".execute").click()
                block.locator(".live-responses-table").wait_for()
        assert {seen[f"{server.address}{path}"] for path in ("/teams", "/v1/users/me")} == {"Bearer a-token"}


def test_no_document_names_a_file_that_is_not_in_the_repository() -> None:
    root = Path(__file__).parents[2]
    for document in sorted((root / "openapi").glob("*.json")):
        text = json.dumps(json.loads(document.read_text(encoding="utf-8")), ensure_ascii=False)
        named = set(re.findall(r"[\w./-]*[\w-]\.(?:md|py|toml|txt|ya?ml|html?|ipynb|cfg)\b", text))
        assert {name for name in named if not (root / name).is_file()} == set(), document.name
        # The sections of an RFC everybody can read.
        assert not re.search(r"(?<!RFC 6902 )(?:section|sections|§)\s*\d", text), document.name


def test_no_two_schemas_have_one_title() -> None:
    """Generators of SDKs name classes by titles, and leave out the second one."""
    for document in sorted((Path(__file__).parents[2] / "openapi").glob("*.json")):
        schemas = json.loads(document.read_text(encoding="utf-8"))["components"]["schemas"]
        titles = Counter(schema.get("title", name) for name, schema in schemas.items())
        assert {title for title, found in titles.items() if found > 1} == set(), document.name
