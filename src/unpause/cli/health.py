"""``python -m unpause.cli.health``: the image's health check, whichever command the container runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULT_PORT = "7777"
_TIMEOUT_SECONDS = 4


def check(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Return 0 if the server that ``command`` started is healthy, else 1.

    Other commands listen on no port: a worker whose work dies exits by itself.
    """
    if not {"serve", "demo"} & {*command}:
        return 0
    port = _option(command, "--port") or environment.get("UNPAUSE_PORT") or _DEFAULT_PORT
    # Without proxies: one of the environment cannot reach an address inside the container.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=_TIMEOUT_SECONDS):
            return 0
    except (OSError, ValueError):
        return 1


def _option(command: Sequence[str], name: str) -> str | None:
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return None


if __name__ == "__main__":
    sys.exit(check(Path("/proc/1/cmdline").read_text(encoding="utf-8").split("\0"), os.environ))
