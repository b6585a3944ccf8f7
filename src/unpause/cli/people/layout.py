"""Lays out one object as lines. Text of others is indented: it cannot pass for a line of the command itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from unpause.cli.people.escapes import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator

_INDENT: Final = "  "


def fields(*named: tuple[str, object], width: int = 12) -> Iterator[str]:
    """Yield a line for each value that there is, with its name."""
    for name, value in named:
        if value:
            yield f"{_INDENT}{harmless(name):<{width}}{harmless(str(value))}"


def block(title: str, text: str | None) -> Iterator[str]:
    """Yield a heading and the lines of a text; nothing where there is none."""
    if text:
        yield f"{title}:"
        yield from (f"{_INDENT}{line}" for line in text.replace("\r\n", "\n").split("\n"))
