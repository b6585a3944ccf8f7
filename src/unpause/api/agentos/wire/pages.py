"""Pages as AgentOS counts them: by number, from 1."""

from __future__ import annotations

from typing import Any

from unpause.domain.paging import Page


def page_at(number: int, limit: int) -> Page:
    """Return the page of that number."""
    return Page(limit, (number - 1) * limit)


def page_json(page: Page, total: int) -> dict[str, Any]:
    """Return the ``meta`` of a list."""
    return {
        "page": page.number,
        "limit": page.limit,
        "total_pages": page.count_pages(total),
        "total_count": total,
        "search_time_ms": 0.0,
    }
