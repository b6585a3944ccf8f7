"""The exit codes of commands, and the exception that ends a command with one of them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING

from unpause.errors import DatabaseFull, DatabaseUnavailable, StorageError

if TYPE_CHECKING:
    from unpause.errors import UnpauseError


class Exit(IntEnum):
    """How a command ended; `docs/how-to/command-line.md` documents the numbers."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    FORBIDDEN = 5
    UNREACHABLE = 6
    RUN_FAILED = 7
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class CommandFailed(Exception):
    """Ends a command with a message on standard error and an exit code."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


def reason_of(error: UnpauseError | StorageError) -> str:
    """Return why a command ends, with the driver's own words where it is the database: operators may see them."""
    message = str(error) if isinstance(error, StorageError) else error.message
    if isinstance(error, DatabaseFull) or not isinstance(error, (DatabaseUnavailable, StorageError)):
        return message
    cause = getattr(error.__cause__, "orig", error.__cause__)
    return f"{message}: {cause}" if cause else message


def drop_output() -> None:
    """Have what is printed from now on, and what waits to be written, go nowhere; Python writes that when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(text: str) -> None:
    """Write to standard error, if that is possible: a full disk there keeps no token back and changes no exit code."""
    with suppress(OSError):
        sys.stderr.write(text)
