"""Finds the commands in a prompt about a failed command."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_COMMANDS: Final = 50

_PROMPT: Final = "$ "
_FENCE: Final = "```"
_OPENED: Final = re.compile(r"[ \t]*```[ \t]*(?P<language>[\w.+-]*)")
_LANGUAGES: Final = frozenset({"", "sh", "bash", "shell", "console", "terminal", "shell-session", "zsh"})

# A line that changes what the lines after it do, or that is not a whole command by itself.
_BOUND: Final = re.compile(
    r"(?:cd|pushd|export|unset|set|source|\.|alias|umask|trap|if|for|while|until|case|function|exec)(?:\s|$)"
    r"|\w+=\S*$|\w+\s*\(\)|[{(]|.*<<|.*\\$"
)


def find_commands(prompt: str) -> list[str]:
    """Return the commands that the prompt holds verbatim, in order; none where it is advice.

    Verbatim are the lines of fenced code blocks that name no other language than a shell's, and a prompt of which every
    line that is not empty starts with ``$ ``. Each line is a command; the lines of a block that depend on each other
    (``cd``, a variable, a loop, a continued line) are one, which stops at the first line that fails.
    """
    if "\x00" in prompt:
        return []
    blocks = [block for language, block in _find_blocks(prompt) if language in _LANGUAGES]
    if blocks:
        return [command for block in blocks for command in _commands(block)]
    lines = [line.strip() for line in prompt.splitlines() if line.strip()]
    if lines and all(line.startswith(_PROMPT) for line in lines):
        return _commands(lines)
    return []


def _find_blocks(prompt: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the language of each fenced block, in small letters, and its lines; one that is not closed is none."""
    language: str | None = None
    block: list[str] = []
    for line in prompt.split("\n"):
        if language is None:
            if opened := _OPENED.match(line):
                language, block = opened["language"].lower(), []
        elif line.strip() == _FENCE:
            yield language, "\n".join(block).splitlines()
            language = None
        else:
            block.append(line)


def _commands(lines: Sequence[str]) -> list[str]:
    typed = [line.strip().removeprefix(_PROMPT) for line in lines if line.strip().startswith(_PROMPT)]
    # A copied terminal: what does not follow a prompt is output.
    written = typed or list(lines)
    commands = [line.strip() for line in written if line.strip() and not line.lstrip().startswith("#")]
    if len(commands) > 1 and (len(commands) > MAX_COMMANDS or any(map(_is_bound, commands))):
        return ["\n".join(["set -e", *written])]
    return commands


def _is_bound(line: str) -> bool:
    unclosed = line.count('"') % 2 == 1 or line.count("'") % 2 == 1
    return unclosed or _BOUND.match(line) is not None
