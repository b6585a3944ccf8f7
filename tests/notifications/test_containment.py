"""What a service may do while it sends: connect to public addresses, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.channels import CHANNELS, SECRET, add_channel, channel_url, notifying
from tests.support.receiver import Receiver
from unpause.notifications.containment import PRIVATE, NotContained, contained

REFUSED = {"success": False, "error": PRIVATE}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0"])
async def test_a_private_address_is_refused_when_it_is_connected_to(tmp_path: Path, host: str) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, notify_private_targets=False) as server:
            url = f"json://user:{SECRET}@{host}:{receiver.port}/"
            response = await server.post(CHANNELS, {"url": url})
            if response.status_code == 400:
                assert SECRET not in response.text
            else:
                sent = await server.post(f"{CHANNELS}/{response.json()['channel_id']}/test")
                assert sent.json() == REFUSED
        assert receiver.received == []


async def test_a_name_that_resolves_to_a_private_address_only_when_it_is_used_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, notify_private_targets=False) as server:
            channel = await add_channel(server, f"json://hooks.example:{receiver.port}/")

            def getaddrinfo(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
                del host
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

            monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
            sent = await server.post(f"{CHANNELS}/{channel['channel_id']}/test")
            assert sent.json() == REFUSED
        assert receiver.received == []


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with Receiver() as elsewhere, Receiver(elsewhere.url) as receiver:
        async with notifying(tmp_path) as server:
            channel = await add_channel(server, f"{channel_url(receiver)}?redirect=yes")
            sent = (await server.post(f"{CHANNELS}/{channel['channel_id']}/test")).json()
        assert sent == {"success": False, "error": "answered 307"}
        assert elsewhere.received == []


def _connect_to_a_path(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as plug:
        plug.connect(str(folder / "socket"))


def _connect_to_a_name(_: Path) -> None:
    with socket.socket() as plug:
        plug.connect(("localhost", 9))


def _send_a_datagram(_: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug:
        plug.sendto(b"x", ("8.8.8.8", 53))


@pytest.mark.parametrize(
    "act",
    [
        _connect_to_a_path,
        _connect_to_a_name,
        _send_a_datagram,
        lambda _: subprocess.run(["true"], check=False),  # noqa: S607
        lambda _: os.system("true"),  # noqa: S605, S607
        pytest.param(
            lambda _: threading.Thread(target=print).start(),
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="this Python tells no hook of a thread"),
        ),
        lambda folder: (folder / "file").read_text(),
        lambda folder: (folder / "file").write_text("x"),
        lambda folder: (folder / "folder").mkdir(),
        lambda folder: (folder / "file").unlink(),
        lambda _: Path("/etc/passwd").read_text(),
    ],
)
def test_whatever_else_a_service_tries_is_refused(tmp_path: Path, act: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("kept")
    with contained(allow_private=True), pytest.raises(NotContained):
        act(tmp_path)
    assert (tmp_path / "file").read_text() == "kept"
    assert not (tmp_path / "folder").exists()


def test_outside_of_a_block_nothing_is_refused(tmp_path: Path) -> None:
    with contained(allow_private=False):
        pass
    (tmp_path / "file").write_text("x")
    subprocess.run(["true"], check=True)  # noqa: S607
