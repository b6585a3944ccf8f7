"""Texts that a command takes as an argument, from a file or from standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from unpause.cli.exits import CommandFailed, Exit

_STANDARD_INPUT = "@-"


def read_words(argument: str) -> str:
    """Return the argument, or standard input for ``@-``; other words may begin with an ``@``."""
    return sys.stdin.read() if argument == _STANDARD_INPUT else argument


def read_file_or_words(argument: str) -> str:
    """Return the argument, the text of the file for ``@FILE``, or standard input for ``@-``."""
    if argument == _STANDARD_INPUT or not argument.startswith("@"):
        return read_words(argument)
    file = Path(argument[1:])
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CommandFailed(f"{file} cannot be read: {reason}", Exit.USAGE) from None
