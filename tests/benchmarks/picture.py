"""Draws the cycles per second of all rows as bars in a PNG file, with the standard library alone."""

from __future__ import annotations

import struct
import zlib
from statistics import median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.benchmarks.results import Results

# Three columns and five rows of dots for each character, an octal digit a row, from the top.
_FONT: Final = (
    "0 75557 1 26227 2 71747 3 71717 4 55711 5 74717 6 74757 7 71122 8 75757 9 75717 . 00002 , 00024 - 00700 / 11244 "
    "a 25755 b 65656 c 34443 d 65556 e 74647 f 74644 g 34553 h 55755 i 72227 j 11152 k 55655 l 44447 m 57755 n 65555 "
    "o 25552 p 65644 q 25563 r 65655 s 34216 t 72222 u 55557 v 55552 w 55775 x 55255 y 55222 z 71247"
)
_PAIRS: Final = _FONT.split()
_GLYPHS: Final = {character: int(dots, 8) for character, dots in zip(_PAIRS[::2], _PAIRS[1::2], strict=True)}
_DOT: Final = 2
_LINE: Final = 8 * _DOT
_LABEL: Final = 18 * 4 * _DOT
_BAR: Final = 420
_WIDTH: Final = _LABEL + _BAR + 8 * 4 * _DOT

_WHITE: Final = b"\xff\xff\xff"
_BLACK: Final = b"\x22\x22\x22"
# By the first word of a subject's key.
_COLOURS: Final = {
    "unpause": b"\x1f\x77\xb4",
    "base": b"\x9e\xc5\xe3",
    "agno": b"\xff\x9f\x4a",
    "limit": b"\xb0\xb0\xb0",
}


class _Canvas:
    """Rows of pixels, three bytes each."""

    def __init__(self, height: int) -> None:
        self._rows = [bytearray(_WHITE * _WIDTH) for _ in range(height)]

    def fill(self, left: int, top: int, width: int, height: int, colour: bytes) -> None:
        """Fill a rectangle."""
        for row in self._rows[top : top + height]:
            row[3 * left : 3 * (left + width)] = colour * width

    def write(self, left: int, top: int, text: str) -> None:
        """Write a line of text."""
        for place, character in enumerate(text.lower()):
            glyph = _GLYPHS.get(character, 0)
            for dot in range(15):
                if glyph >> (14 - dot) & 1:
                    across = left + _DOT * (4 * place + dot % 3)
                    self.fill(across, top + _DOT * (dot // 3), _DOT, _DOT, _BLACK)

    def as_png(self) -> bytes:
        """Return the file."""
        header = struct.pack(">IIBBBBB", _WIDTH, len(self._rows), 8, 2, 0, 0, 0)
        pixels = zlib.compress(b"".join(b"\0" + row for row in self._rows))
        chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )


def draw(results: Results) -> bytes:
    """Return a PNG file with a bar for each row, in groups of one database, transport and number of clients."""
    lines: list[tuple[str, float | None]] = []
    group = None
    for database, transport in dict.fromkeys(row[:2] for row in results.slices):
        for row in results.rows(database, transport):
            if row[:3] != group:
                group = row[:3]
                lines += [("", None), (f"{database}, {transport}, {row.clients} clients, cycles/s", None)]
            lines.append((row.subject, median(figures.cycles_per_second for figures in results.slices[row])))
    canvas = _Canvas(_LINE * (len(lines) + 1))
    most = max((rate for _, rate in lines if rate), default=1.0)
    for number, (text, rate) in enumerate(lines):
        top = _LINE * number
        canvas.write(_DOT, top, text)
        if rate is not None:
            width = round(_BAR * rate / most)
            canvas.fill(_LABEL, top, width, 5 * _DOT, _COLOURS[text.partition("-")[0]])
            canvas.write(_LABEL + width + 2 * _DOT, top, f"{rate:.1f}")
    return canvas.as_png()
