"""What front ends of AG-UI do: the published client in Node, and a page of ready-made components in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.clients.conftest import AGENTS_FILE
from tests.docs.pages import Page
from tests.support.client_environments import ROOT, ClientUnavailableError, foreign_environment, node_environment
from tests.support.processes import ServerProcess

# npm installs for a while.
pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

PROGRAM = Path(__file__).with_name("ag_ui")
GUIDE = Page(ROOT / "docs" / "how-to" / "ag-ui-front-end.md")
CHROMIUM = shutil.which("chromium")
PATIENCE = 20_000

APPROVED = {
    "outcome": "success",
    "error": None,
    "text": "Told: deleted approved.txt",
    "results": ["deleted approved.txt"],
}
SEEN = {
    "approve": {
        "paused": "interrupt",
        "reason": "tool_call",
        "ended": APPROVED,
        "roles": ["user", "assistant", "tool", "assistant"],
    },
    "reject": {"outcome": "success", "error": None, "text": "Told: keep it", "results": ["keep it"]},
    "decline": {
        "outcome": "success",
        "error": None,
        "text": "Told: Function call was rejected by the user",
        "results": ["Function call was rejected by the user"],
    },
    "fill": {
        "reason": "input_required",
        "ended": {
            "outcome": "success",
            "error": None,
            "text": "Told: sent hello to a@example.org 2 times",
            "results": ["sent hello to a@example.org 2 times"],
        },
    },
    "external": {
        "reason": "unpause:external_execution",
        "ended": {"outcome": "success", "error": None, "text": "Told: a.txt", "results": ["a.txt"]},
    },
    "frontend": {
        "called": "show_toast",
        "first": "success",
        "ended": {"outcome": "success", "error": None, "text": "Told: shown", "results": []},
    },
    "partly": {
        "open": 2,
        "refused": True,
        "ended": {
            "outcome": "success",
            "error": None,
            "text": "Told: deleted two.txt-1 | deleted two.txt-2",
            "results": ["deleted two.txt-1", "deleted two.txt-2"],
        },
    },
    "race": ["already_decided", "done"],
    "together": ["interrupt", "refused"],
    "forge": {"outcome": "interrupt", "error": None, "results": []},
    "protobuf": "interrupt",
    "fail": {"code": "model_error", "outcome": None},
    "nobody": "HTTP 404",
    "reconnect": {"status": 200, "first": "RUN_STARTED", "last": "RUN_FINISHED"},
    "stop": {"status": 200, "next": {"outcome": "success", "error": None, "text": "hello", "results": []}},
}


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Return the folder with the packages; skip the test where there is no Node or npm cannot install them."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node or no npm on this machine")
    try:
        return node_environment(PROGRAM) / "node_modules"
    except ClientUnavailableError as error:
        pytest.skip(str(error))


def run_node(node_modules: Path, folder: Path, *command: str) -> str:
    """Run a command in a folder that has these packages; return what it prints."""
    (folder / "node_modules").symlink_to(node_modules)
    done = subprocess.run(
        command, cwd=folder, env=foreign_environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The newest, and the one that CopilotKit 1.74 and assistant-ui's adapter 0.0.58 have.
@pytest.mark.parametrize("package", ["@ag-ui/client", "ag-ui-client-before-1"])
def test_the_published_client_runs_decides_and_is_refused(
    package: str, node_modules: Path, server: ServerProcess, tmp_path: Path
) -> None:
    shutil.copy(PROGRAM / "journey.mjs", tmp_path)
    printed = run_node(node_modules, tmp_path, "node", "journey.mjs", package, server.address, "a-token")
    seen: dict[str, Any] = json.loads(printed)
    assert seen == SEEN


def bundle(node_modules: Path, folder: Path, agent_url: str) -> None:
    """Write the page of the guide into a folder, for the agent at this URL."""
    for block in GUIDE.blocks:
        if block.file is not None:
            text = block.text.replace("http://127.0.0.1:7777/agents/files", agent_url)
            (folder / block.file).write_text(text, encoding="utf-8")
    esbuild = str(node_modules / ".bin" / "esbuild")
    run_node(node_modules, folder, esbuild, "app.jsx", "--bundle", "--jsx=automatic", "--outfile=app.js")


@contextmanager
def site(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yield their origin."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on this machine")
@pytest.mark.parametrize(("button", "answer"), [("Approve", "Told: deleted here"), ("Reject", "Told: keep it")])
def test_a_page_of_ready_made_components_approves_and_rejects(
    button: str, answer: str, node_modules: Path, tmp_path: Path
) -> None:
    page_folder, folder = tmp_path / "page", tmp_path / "server"
    page_folder.mkdir()
    folder.mkdir()
    with (
        site(page_folder) as origin,
        ServerProcess(folder, "--agents", AGENTS_FILE, environment={"UNPAUSE_CORS_ORIGINS": origin}) as server,
        sync_playwright() as playwright,
    ):
        bundle(node_modules, page_folder, f"{server.address}/agents/desk")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"{origin}/index.html")
        page.get_by_placeholder("delete old.log").fill("delete here")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name=button).click(timeout=PATIENCE)
        expect(page.get_by_text(answer)).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_role("button", name=button)).to_have_count(0)
        browser.close()
