"""A page of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Select

    from unpause.domain.paging import Page

# Drivers refuse larger numbers; no table has so many rows.
_LARGEST_OFFSET = 2**63 - 1


def paged(query: Select[Any], page: Page) -> Select[Any]:
    """Return the query of that page alone."""
    return query.limit(page.limit).offset(min(page.offset, _LARGEST_OFFSET))
