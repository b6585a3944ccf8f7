"""A part of a list, named by how many items to leave out and how many to give."""

from __future__ import annotations

from dataclasses import dataclass

# No database counts further: what begins there is empty anyway.
_LAST_OFFSET = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Slice:
    """``limit`` items after the first ``skip``."""

    skip: int = 0
    limit: int = 100

    @property
    def offset(self) -> int:
        """How many items come before it, as far as a database can say."""
        return min(self.skip, _LAST_OFFSET)

    @property
    def page(self) -> int:
        """The number, from 1, of the page of ``limit`` items that it begins in."""
        return self.skip // self.limit + 1

    def count_pages(self, total: int) -> int:
        """Return how many pages of ``limit`` items there are."""
        return -(-total // self.limit)
