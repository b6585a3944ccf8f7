"""Reads the documents: their blocks, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.client_environments import ROOT

# A fence, and on the line before it perhaps the reason why the block cannot run in a test.
_BLOCK: Final = re.compile(
    r"^(?:[ ]*<!-- not run: (?P<reason>[^\n]+?) -->\n)?(?P<indent>[ ]*)```(?P<language>[\w-]*)\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
# The first line of a block that is a file: a comment with its name.
_FILE: Final = re.compile(r"(?:#|//|<!--) (?P<name>[\w./-]+\.\w+|Caddyfile)(?: -->)?\n")
_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)")
_HEADING: Final = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `not_run` is the reason why no test executes it."""

    language: str
    text: str
    line: int
    not_run: str | None = None

    @property
    def file(self) -> str | None:
        """The file that the block shows, or None."""
        found = _FILE.match(self.text)
        return found["name"] if found else None


@dataclass(frozen=True, slots=True)
class Page:
    """A document, by its path in the repository."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self) -> list[Block]:
        return list(_read_blocks(self.text))

    @property
    def links(self) -> list[str]:
        return _LINK.findall(_without_blocks(self.text))

    @property
    def anchors(self) -> set[str]:
        return {_anchor(heading) for heading in _HEADING.findall(_without_blocks(self.text))}


def all_pages() -> list[Page]:
    """Return the README and all documents in `docs` and `.github`."""
    folders = (ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / ".github").rglob("*.md"))
    return [Page(path) for paths in folders for path in sorted(paths)]


def _read_blocks(text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        indent = found["indent"]
        lines = found["text"].splitlines(keepends=True)
        inner = "".join(line.removeprefix(indent) for line in lines)
        yield Block(found["language"], inner, text.count("\n", 0, found.start("language")) + 1, found["reason"])


def _without_blocks(text: str) -> str:
    return _BLOCK.sub("", text)


def _anchor(heading: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
