"""The exit codes of commands, and the exception that ends a command with one of them."""

from __future__ import annotations

from enum import IntEnum


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
