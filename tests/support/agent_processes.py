"""Where agents of a server run: what fixtures are parametrized with, and the processes that a server has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.preloaded import AGENT_PROCESS

# Values of --agent-processes for a fixture that serves: agents in the server itself, and in a process of their own.
HOSTS: Final = (
    pytest.param("0", id="in-process"),
    pytest.param("1", id="agent-process", marks=pytest.mark.agent_process),
)


def agent_processes_of(pid: int) -> set[int]:
    """Return the ids of the agent processes that the server with this process id has.

    They are its children, or those of its own parent (see `preloaded.py`).
    """
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    found = {child for child in _children_of(pid) if b"agent_process" in _read(child, "cmdline")}
    return found | {child for child in _children_of(parent) if AGENT_PROCESS.encode() in _read(child, "comm")}


def children_of(pid: int) -> list[int]:
    """Return the ids of the processes that this one has started, but for those that have ended."""
    return [child for child in _children_of(pid) if _read(child, "cmdline")]


def _children_of(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        yield from map(int, (thread / "children").read_text().split())


def _read(pid: int, file: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:
        return b""
