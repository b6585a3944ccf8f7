"""Ports for servers that are started later, or more than once."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a free port below those that the system hands out: one of these another test could get meanwhile."""
    while True:
        port = random.randrange(10_000, 30_000)  # noqa: S311 - nothing secret
        with socket.socket() as taken, suppress(OSError):
            taken.bind(("127.0.0.1", port))
            return port
