"""The door to servers that clients name: whom it connects to, by which name, and what it makes of the answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from tests.support.certificates import Authority
from tests.support.receiver import Receiver
from unpause.domain.webhooks import DeliveryResult
from unpause.webhooks.http import SafeHttpClient

# For an answer that comes: longer than the machine may stand still.
_SECONDS = 60
REFUSED = DeliveryResult(error="the address is private or of this machine")


class Resolver:
    """Answers with one list of addresses after the other, the last one for ever; counts how often it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.requests: list[tuple[str, int]] = []

    async def __call__(self, name: str, port: int) -> Sequence[str]:
        self.requests.append((name, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return where connections would be made to; none is made."""
    made: list[tuple[str, int]] = []

    async def connect_tcp(remote_host: str, remote_port: int, **_: object) -> None:
        made.append((remote_host, remote_port))
        raise OSError

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    return made


async def post(door: SafeHttpClient, url: str) -> DeliveryResult:
    return await door.post(url, b"{}", {"Content-Type": "application/json"})


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_a_status_of_200_to_299_is_a_success(status: int) -> None:
    with Receiver(status) as receiver:
        assert await post(SafeHttpClient(_SECONDS, allow_private=True), receiver.url) == DeliveryResult(status)
        [received] = receiver.received
    assert (received.path, received.body) == ("/hook?a=b", b"{}")


@pytest.mark.parametrize("status", [300, 304, 400, 404, 410, 429, 500, 503])
async def test_any_other_status_is_a_failure(status: int) -> None:
    with Receiver(status) as receiver:
        sent = await post(SafeHttpClient(_SECONDS, allow_private=True), receiver.url)
    assert sent == DeliveryResult(status, f"answered {status}")
    assert not sent.success


async def test_a_redirect_is_not_followed() -> None:
    with Receiver() as elsewhere, Receiver(elsewhere.url) as receiver:
        assert await post(SafeHttpClient(_SECONDS, allow_private=True), receiver.url) == DeliveryResult(
            307, "answered 307"
        )
        assert len(receiver.received) == 1
        assert elsewhere.received == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0"])
async def test_an_address_of_this_machine_is_refused_in_every_notation(host: str) -> None:
    with Receiver() as receiver:
        assert await post(SafeHttpClient(_SECONDS), f"http://{host}:{receiver.port}/") == REFUSED
        assert receiver.received == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1"],
        ["fe80::1%2"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["fd00::1"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["8.8.8.8", "::1"],
        [*(["8.8.8.8"] * 10), "10.0.0.1"],
    ],
)
async def test_a_name_with_any_address_that_is_not_public_is_refused(
    addresses: Sequence[str], connections: list[tuple[str, int]]
) -> None:
    assert await post(SafeHttpClient(_SECONDS, resolve=Resolver(addresses)), "http://hooks.example/") == REFUSED
    assert connections == []


async def test_a_name_that_the_machine_itself_resolves_to_this_machine_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        assert host == "hooks.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with Receiver() as receiver:
        url = f"http://hooks.example:{receiver.port}/"
        assert await post(SafeHttpClient(_SECONDS), url) == REFUSED
        assert receiver.received == []
        assert await post(SafeHttpClient(_SECONDS, allow_private=True), url) == DeliveryResult(200)


async def test_the_address_that_was_looked_at_is_the_one_connected_to(connections: list[tuple[str, int]]) -> None:
    """A name that resolves to something else a moment later."""
    resolver = Resolver(["8.8.8.8"], ["127.0.0.1"])
    assert await post(SafeHttpClient(_SECONDS, resolve=resolver), "http://rebinding.example:81/") == DeliveryResult(
        error="could not connect"
    )
    assert connections == [("8.8.8.8", 81)]
    assert resolver.requests == [("rebinding.example", 81)]


async def test_a_name_is_resolved_once_and_the_host_header_still_names_it() -> None:
    with Receiver() as receiver, Receiver(host="127.0.0.2", port=receiver.port) as other:
        resolver = Resolver(["127.0.0.1"], ["127.0.0.2"])
        door = SafeHttpClient(_SECONDS, allow_private=True, resolve=resolver)
        assert await post(door, f"http://hooks.example:{receiver.port}/") == DeliveryResult(200)
        assert (len(receiver.received), len(other.received), len(resolver.requests)) == (1, 0, 1)
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"
        # No connection is kept for the next one.
        assert await post(door, f"http://hooks.example:{receiver.port}/") == DeliveryResult(200)
        assert (len(receiver.received), len(other.received)) == (1, 1)


async def test_where_one_address_does_not_answer_the_next_is_tried() -> None:
    with Receiver(host="127.0.0.2") as receiver:
        resolver = Resolver(["127.0.0.3", "127.0.0.2"])
        url = f"http://hooks.example:{receiver.port}/"
        assert await post(SafeHttpClient(_SECONDS, allow_private=True, resolve=resolver), url) == DeliveryResult(200)


async def test_a_message_that_may_have_arrived_goes_to_no_second_address() -> None:
    with Receiver(500) as first, Receiver(host="127.0.0.2", port=first.port) as second:
        resolver = Resolver(["127.0.0.1", "127.0.0.2"])
        url = f"http://hooks.example:{first.port}/"
        assert (await post(SafeHttpClient(_SECONDS, allow_private=True, resolve=resolver), url)).status_code == 500
        assert second.received == []


async def test_tls_asks_for_the_name_and_checks_the_certificate_for_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with Receiver(tls=authority.server_context("hooks.example")) as receiver:
        door = SafeHttpClient(
            _SECONDS, allow_private=True, resolve=Resolver(["127.0.0.1"]), tls=authority.client_context()
        )
        assert await post(door, f"https://hooks.example:{receiver.port}/") == DeliveryResult(200)
        assert receiver.received[0].server_name == "hooks.example"
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"
        wrong = await post(door, f"https://other.example:{receiver.port}/")
        assert wrong.error is not None
        assert wrong.error.startswith("TLS: certificate not accepted: Hostname mismatch")
        untrusting = SafeHttpClient(
            _SECONDS, allow_private=True, resolve=Resolver(["127.0.0.1"]), tls=ssl.create_default_context()
        )
        unknown = await post(untrusting, f"https://hooks.example:{receiver.port}/")
        assert unknown.error is not None
        assert unknown.error.startswith("TLS: certificate not accepted")
        assert len(receiver.received) == 1


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver() as proxy, Receiver() as receiver:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("ALL_PROXY", proxy.address)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert await post(SafeHttpClient(_SECONDS, allow_private=True), receiver.url) == DeliveryResult(200)
        assert proxy.received == []


async def test_an_answer_that_never_comes_is_given_up() -> None:
    with Receiver(None) as receiver:
        assert await post(SafeHttpClient(0.2, allow_private=True), receiver.url) == DeliveryResult(
            error="no answer within 0.2 seconds"
        )


async def test_a_name_server_that_is_silent_is_given_up_and_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[object]:
        answer.wait(60)
        return []

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", getaddrinfo)
        began = time.monotonic()
        sent = await post(SafeHttpClient(0.1), "http://hooks.example/")
        assert sent == DeliveryResult(error="no answer within 0.1 seconds")
        await asyncio.get_running_loop().shutdown_default_executor()
        assert time.monotonic() - began < 30
        answer.set()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "the answer is not HTTP"),
        (b"not HTTP at all\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000, "the answer is not HTTP"),
    ],
)
async def test_what_is_no_answer_is_a_failure(answer: bytes, error: str) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await post(SafeHttpClient(_SECONDS, allow_private=True), f"http://127.0.0.1:{port}/") == DeliveryResult(
            error=error
        )


@pytest.mark.parametrize(
    ("head", "piece", "result"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"10000\r\n" + b"a" * 0x10000 + b"\r\n",
            DeliveryResult(200),
        ),
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, DeliveryResult(error="the answer is not HTTP")),
    ],
    ids=["body", "interim answers"],
)
async def test_of_an_endless_answer_only_the_head_is_read(head: bytes, piece: bytes, result: DeliveryResult) -> None:
    gone = asyncio.Event()

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(head)
        try:
            while True:
                writer.write(piece)
                await writer.drain()
        except ConnectionError:
            gone.set()
        finally:
            writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        # As good as without a time limit: the receiver is cut off for what it sends.
        assert await post(SafeHttpClient(600, allow_private=True), f"http://127.0.0.1:{port}/") == result
        async with asyncio.timeout(60):
            await gone.wait()


@pytest.mark.parametrize("url", ["ftp://example.org/", "http://user:canary@example.org/", ""])
async def test_what_is_no_url_any_more_is_a_failure_that_does_not_show_it(url: str) -> None:
    sent = await post(SafeHttpClient(_SECONDS), url)
    assert sent.status_code is None
    assert sent.error is not None
    assert "canary" not in sent.error


async def test_a_name_without_an_address_and_a_closed_port_are_failures() -> None:
    async def nothing(name: str, port: int) -> Sequence[str]:
        raise OSError(name, port)

    assert await post(SafeHttpClient(_SECONDS, resolve=nothing), "http://a.example/") == DeliveryResult(
        error="the name does not resolve"
    )
    assert await post(SafeHttpClient(_SECONDS, resolve=Resolver([])), "http://a.example/") == DeliveryResult(
        error="the name does not resolve"
    )
    with Receiver() as receiver:
        closed = receiver.url
    assert await post(SafeHttpClient(_SECONDS, allow_private=True), closed) == DeliveryResult(error="could not connect")
