"""The agent processes of a server, as the operating system has them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def agent_processes_of(pid: int) -> set[int]:
    """Return the ids of the agent processes that the server with this process id has."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            with suppress(OSError):
                if b"agent_process" in Path(f"/proc/{child}/cmdline").read_bytes():
                    found.add(int(child))
    return found
