"""Where agents of a server run: what fixtures are parametrized with, and the processes that a server has."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

# Values of --agent-processes for a fixture that serves: agents in the server itself, and in a process of their own.
HOSTS: Final = (
    pytest.param("0", id="in-process"),
    pytest.param("1", id="agent-process", marks=pytest.mark.agent_process),
)


def agent_processes_of(pid: int) -> set[int]:
    """Return the ids of the agent processes that the server with this process id has."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            with suppress(OSError):
                if b"agent_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(int(child))
    return found
