r"""Makes text from models, tools and other people harmless for a terminal.

A control character can move the cursor, retitle the terminal or paste into it; a bidirectional control shows text in
another order than the one that runs. They are shown as Python would write them: ``\x1b``.
"""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Controls (C0, DEL, C1), formats (bidirectional, invisible), lone surrogates, line and paragraph separators.
_HARMFUL: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# The layout of a text with several lines, and the two joiners that emoji and some scripts need.
_LAYOUT: Final = "\n\t\u200c\u200d"


def harmless(text: str) -> str:
    """Return the text in one line, with visible escapes in place of its harmful characters."""
    return _replaced(text, "", _escape)


def harmless_lines(text: str) -> str:
    """Return a text that may have several lines, with visible escapes in place of its harmful characters."""
    return _replaced(text.replace("\r\n", "\n"), _LAYOUT, _escape)


def harmless_json(value: Any, indent: int | None = None) -> str:  # noqa: ANN401 - whatever is JSON
    """Return the value as JSON: its harmful characters are JSON's own escapes, so that no value changes."""
    # Line ends of an indented text are its layout; those of strings are escaped already.
    return _replaced(json.dumps(value, ensure_ascii=False, indent=indent), "\n", lambda char: json.dumps(char)[1:-1])


def _replaced(text: str, keep: str, escape: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(
        escape(char) if unicodedata.category(char) in _HARMFUL and char not in keep else char for char in text
    )


def _escape(char: str) -> str:
    # A lone surrogate has no other form than this one.
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
