"""Where the server connects to: only through the one door, whoever named the address and in whatever field."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.receiver import Receiver
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving
from tests.support.webhook_server import RUN, WEBHOOK, WebhookServer, all_over, webhook_server
from unpause.domain.urls import is_public, read_url, refuse_private
from unpause.errors import InvalidInput

SOURCE = Path(__file__).parents[2] / "src" / "unpause"

# What can connect to somewhere, and who in the source may have it and why.
CONNECTING = {
    *("aiohttp", "ftplib", "http.client", "http2", "httpcore", "httpx", "httpx2", "imaplib", "poplib", "requests"),
    *("smtplib", "socket", "ssl", "telnetlib", "urllib.request", "urllib3", "websockets", "xmlrpc"),
}
CALLS = {"PyJWKClient", "create_connection", "open_connection", "open_unix_connection", "sock_connect", "urlopen"}
ALLOWED = {
    "webhooks/http.py": {"httpcore", "httpx", "socket", "ssl"},  # the door
    # A pair of sockets between the server and the processes that it starts; to connect to nobody else.
    "agents/process/launch.py": {"socket"},
    "agents/process/frames.py": {"socket", "open_connection"},
    "cli/agent_server.py": {"socket"},
    "auth/jwks.py": {"httpx"},  # the operator's own address
    # A second handle of connections that have been checked, to end them by; and what is read from them, to count it.
    "notifications/containment.py": {"socket"},
    "notifications/reading.py": {"socket"},
    "domain/urls.py": {"socket"},  # reads addresses; connects to none
    "cli/health.py": {"urllib.request"},  # the image's health check, which asks this machine only
    # The commands for people are clients of the server that their user names.
    "cli/people/client.py": {"ssl"},
    "cli/people/errors.py": {"httpx"},
    "cli/people/http.py": {"httpx"},
    "cli/server_process.py": {"socket"},  # a type of the listening side
}

PRIVATE = ["http://127.0.0.1:1/", "http://[::ffff:a9fe:a9fe]/", "http://localhost/", "http://0x7f.1./"]


def modules_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def names_in(tree: ast.AST) -> set[str]:
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def connecting(module: str) -> set[str]:
    """Return what of a module's name can connect: `urllib.request.Request` is of `urllib.request`."""
    parts = module.split(".")
    return CONNECTING & {".".join(parts[: length + 1]) for length in range(len(parts))}


def test_nobody_but_the_door_and_the_reader_of_the_operators_keys_can_connect_to_anything() -> None:
    found: dict[str, set[str]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        used = {name for module in modules_in(tree) for name in connecting(module)} | (CALLS & names_in(tree))
        if used:
            found[file.relative_to(SOURCE).as_posix()] = used
    assert found == ALLOWED


@pytest.mark.parametrize("module", ["httpx", "urllib.request.urlopen", "http.client", "requests.sessions"])
def test_the_scan_sees_what_connects(module: str) -> None:
    assert connecting(module)
    assert not connecting("urllib.parse")


@pytest.mark.parametrize("host", ["127.0.0.1.", "127.1.", "0x7f000001.", "2130706433.", "0177.0.0.1.", "localhost."])
def test_a_trailing_dot_hides_no_address(host: str) -> None:
    with pytest.raises(InvalidInput):
        refuse_private(read_url(f"http://{host}/"))


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("2001:4860:4860::5efe:8.8.8.8", True),
        ("2001:4860:4860::5efe:10.0.0.1", False),
        ("2001:4860:4860::200:5efe:169.254.169.254", False),
        ("fe80::5efe:8.8.8.8", False),
        ("::8.8.8.8", False),
        ("::ffff:0:10.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::8.8.8.8", False),
    ],
)
def test_an_ipv4_address_inside_of_an_ipv6_address_is_looked_at(host: str, *, public: bool) -> None:
    url = read_url(f"http://[{host}]/")
    assert url.literal is not None
    assert is_public(url.literal) is public


@pytest.mark.parametrize("url", PRIVATE)
async def test_every_address_that_a_client_can_name_is_refused_where_it_is_private(tmp_path: Path, url: str) -> None:
    async with webhook_server(tmp_path, webhook_private_targets=False) as server:
        bodies: list[tuple[str, dict[str, Any]]] = [
            (WEBHOOK, {"url": url}),
            (f"{WEBHOOK}/test", {"url": url}),
            (RUN, {"prompt": "hello", "webhooks": [{"url": url}]}),
        ]
        for path, body in bodies:
            refused = await server.client.post(path, json=body)
            assert (refused.status_code, refused.json()["status_code"]) == (400, 400), path
        assert (await server.client.get("/v1/organizations/1/agent/runs")).json()["total"] == 0
        run = await server.create()
        resumed = {"agent_run_id": run["id"], "prompt": "go on", "webhooks": [{"url": url}]}
        assert (await server.client.post(f"{RUN}/resume", json=resumed)).status_code == 400
        assert (await server.settled(run["id"]))["status"] == "PAUSED"


class Rebinding:
    """A name that is public when it is first looked up, and this machine ever after."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        del name, port
        return [self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]]


async def tell_all(server: WebhookServer, url: str) -> None:
    """Use every way there is to have the server tell the address something."""
    await server.configure(url)
    await server.create()
    await server.create(webhooks=[{"url": url}])
    tested = await server.client.post(f"{WEBHOOK}/test", json={"url": url})
    assert tested.status_code == 200
    await server.deliveries_once(all_over)


async def test_a_name_that_leads_to_this_machine_hears_nothing_by_whatever_way_it_was_named(tmp_path: Path) -> None:
    with Receiver() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        async with webhook_server(tmp_path, webhook_private_targets=False, resolve=Rebinding("127.0.0.1")) as server:
            await server.configure(url)
            await server.create()
            await server.create(webhooks=[{"url": url}])
            for delivery in await server.deliveries_once(all_over):
                assert delivery["last_error"] == "the address is private or of this machine"
        assert receiver.received == []


async def test_a_redirect_to_this_machine_is_not_followed_by_whatever_way_it_was_named(tmp_path: Path) -> None:
    with Receiver() as inside, Receiver(*[inside.url] * 20) as outside:
        async with webhook_server(tmp_path) as server:
            await tell_all(server, outside.url)
        assert outside.received
        assert inside.received == []


async def test_nothing_is_fetched_for_a_picture_or_file_whose_address_is_given(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with serving(tmp_path, drivers=[ScriptedDriver()]) as client:
            for url in (receiver.url, "http://169.254.169.254/", "file:///etc/passwd", "ftp://127.0.0.1/a", "//a/b"):
                refused = await client.post(RUN, json={"prompt": "hello", "images": [url]})
                assert refused.status_code == 400, url
                assert refused.json()["message"].startswith("images[0]: not a base64 data URI")
                for form in media_forms(url):
                    assert_refused(await client.post("/agents/scripted/runs", data=form))
            assert (await client.get("/v1/organizations/1/agent/runs")).json()["total"] == 0
        assert receiver.received == []


def media_forms(url: str) -> Iterator[dict[str, str]]:
    for field in ("images", "input_files", "audio", "videos"):
        for key in ("url", "filepath", "external"):
            yield {"message": "hello", "stream": "false", field: json.dumps([{key: url}])}


def assert_refused(response: httpx.Response) -> None:
    assert response.status_code == 400, response.text
    assert response.json().keys() == {"detail"}
