"""Keeps the SQLite file, and those that stand beside it, from other users of the machine."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

OWN_MODE: Final = 0o600

# SQLite makes those of its own with the mode of the database; the last one is the server's.
_BESIDE: Final = ("", "-wal", "-shm", "-journal", ".lock")


def keep_private(file: Path) -> None:
    """Let nobody but this user read or write the files that there are; one of another user's stays as it is."""
    for ending in _BESIDE:
        found = Path(f"{file.resolve()}{ending}")
        # What is no file, such as a folder named by mistake, is refused by who opens it.
        if found.is_file():
            with suppress(PermissionError):
                found.chmod(OWN_MODE)


def create_private(file: Path) -> None:
    """Make the file, empty, for this user alone; one that is there stays as it is."""
    # Whoever opens it says what is wrong.
    with suppress(OSError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWN_MODE))
