"""Pages of lists: read from ``skip`` and ``limit``, answered with the keys of Codegen's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from unpause.domain import paging

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A page of a list; ``page`` counts from 1."""

    items: list[T]
    total: int
    page: int
    size: int
    pages: int


async def read_page(
    skip: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 100
) -> paging.Page:
    """Return the page that the query parameters name."""
    return paging.Page(limit, skip)


Paging = Annotated[paging.Page, Depends(read_page)]


def page_json(items: Sequence[Any], total: int, page: paging.Page) -> dict[str, Any]:
    """Return the items as a page."""
    return {"items": items, "total": total, **page_numbers(total, page)}


def page_numbers(total: int, page: paging.Page) -> dict[str, int]:
    """Return the number of the page, how many items a page has, and how many pages there are."""
    return {"page": page.number, "size": page.limit, "pages": page.count_pages(total)}
