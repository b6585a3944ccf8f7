"""Parts of lists: read from ``skip`` and ``limit``, answered with the keys of Codegen's pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel

from unpause.domain.paging import Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """A part of a list; ``page`` counts from 1."""

    items: list[T]
    total: int
    page: int
    size: int
    pages: int


async def read_slice(skip: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 100) -> Slice:
    """Return the part that is asked for."""
    return Slice(skip, limit)


Part = Annotated[Slice, Depends(read_slice)]


def page_json(items: Sequence[Any], total: int, part: Slice) -> dict[str, Any]:
    """Return the items as a page."""
    return {"items": items, "total": total, **page_numbers(total, part)}


def page_numbers(total: int, part: Slice) -> dict[str, int]:
    """Return which page this is, how many items one has, and how many there are."""
    return {"page": part.page, "size": part.limit, "pages": part.count_pages(total)}
