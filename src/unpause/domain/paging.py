"""A page of a list. Each API translates its own page numbers into this."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """Up to ``limit`` items after the first ``offset``."""

    limit: int = 100
    offset: int = 0

    @property
    def number(self) -> int:
        """The number of the page, counted from 1, that begins at ``offset`` where all pages have ``limit`` items."""
        return self.offset // self.limit + 1

    def count_pages(self, total: int) -> int:
        """Return how many pages of ``limit`` items hold ``total`` items."""
        return -(-total // self.limit)
