"""Bounds what a notification service's code reads of answers: it reads whole ones, however long they are.

Nothing changes for code that is not contained.
"""

from __future__ import annotations

import socket
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from unpause.notifications.containment import current_containment

if TYPE_CHECKING:
    from collections.abc import Iterator

# Bytes of an answer's body that a service gets, decompressed. The rest is not read, and no failure: whether a message
# was taken stands before it.
_LONGEST_BODY: Final = 1024 * 1024
# Decompressed in one step; a byte may become thirty thousand.
_PIECE: Final = 1024


@cache
def bound_reading() -> None:
    """Count what is read from connections against the containment of its thread, and cut the bodies of answers off."""
    socket.SocketIO = _CountedReads  # type: ignore[misc]  # what socket.makefile makes, for HTTP and SMTP alike
    adapters: Any = import_module("requests.adapters")

    class CutOff(adapters.Response):  # type: ignore[misc]  # requests has no types here
        """An answer of which a contained thread reads no more than the beginning."""

        def iter_content(self, chunk_size: int | None = 1, decode_unicode: bool = False) -> Iterator[Any]:  # noqa: FBT001, FBT002 - requests' own signature
            """Return the body, piece by piece."""
            if current_containment() is None:
                return super().iter_content(chunk_size, decode_unicode)  # type: ignore[no-any-return]
            return _beginning(super().iter_content(min(chunk_size or _PIECE, _PIECE), decode_unicode))

    adapters.Response = CutOff


class _CountedReads(socket.SocketIO):
    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - whatever has a buffer
        """Read into the buffer; raise NotContained where a contained thread has read too much."""
        count = super().readinto(buffer)
        containment = current_containment()
        if containment is not None and count:
            containment.count_read(count)
        return count


def _beginning(pieces: Iterator[Any]) -> Iterator[Any]:
    left = _LONGEST_BODY
    for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return
