"""A page of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Select

    from unpause.domain.paging import Page

# The largest limit and offset: drivers refuse larger ones, and no table has so many rows.
LARGEST = 2**63 - 1


def paged(query: Select[Any], page: Page) -> Select[Any]:
    """Return the query of that page alone."""
    return query.limit(page.limit).offset(min(page.offset, LARGEST))
