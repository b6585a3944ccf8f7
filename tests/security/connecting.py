"""Clients that do not behave: they send by hand, slowly or without end."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from tests.support.processes import DEADLINE, ServerProcess

_PIECE = 64 * 1024
_SLOWLY = 0.1


@contextmanager
def connected(server: ServerProcess, source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """Connect to the server from an address of this machine."""
    url = httpx.URL(server.address)
    with socket.create_connection((url.host, url.port or 0), DEADLINE, (source, 0)) as connection:
        yield connection


def head(method: str, path: str, **fields: str) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{name}: {text}" for name, text in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def trickle(connection: socket.socket, byte: bytes = b"a") -> bytes:
    """Send a byte now and then until the server closes; return what it answered. Fails where it never closes."""
    connection.settimeout(_SLOWLY)
    answer, until = b"", time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            connection.sendall(byte)
            received = connection.recv(_PIECE)
        except TimeoutError:
            continue
        except ConnectionError:
            return answer
        if not received:
            return answer
        answer += received
    message = f"the connection is still open; it answered {answer!r}"
    raise AssertionError(message)


def wait_for_close(connection: socket.socket) -> bytes:
    """Send nothing until the server closes; return what it answered. Fails where it never closes."""
    connection.settimeout(DEADLINE)
    answer = b""
    with suppress(ConnectionError):
        while received := connection.recv(_PIECE):
            answer += received
    return answer


def read_answer(connection: socket.socket) -> bytes:
    """Return what has come once there is a whole head."""
    connection.settimeout(DEADLINE)
    answer = b""
    while b"\r\n\r\n" not in answer:
        received = connection.recv(_PIECE)
        assert received, answer
        answer += received
    return answer


def flood(connection: socket.socket, piece: bytes, most_bytes: int) -> int:
    """Send the piece again and again until the server closes; return how much went out, at most so much."""
    connection.settimeout(DEADLINE)
    content = piece * (_PIECE // len(piece))
    sent = 0
    with suppress(ConnectionError):
        while sent < most_bytes:
            connection.sendall(content)
            sent += len(content)
    return sent


def resident_bytes(server: ServerProcess) -> int:
    """Return how much memory the server's process has."""
    status = Path(f"/proc/{server.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
