"""The callers of Codegen's API."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Header, Path
from starlette.requests import Request

from unpause.api.permissions import principal_of
from unpause.domain.principal import Principal
from unpause.errors import OrganizationForbidden, RunNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator


# Codegen's document has no type for the header; without one openapi-python-client generates no operation.
async def get_caller(request: Request, authorization: Annotated[str | None, Header()] = None) -> Principal:
    """Return the caller; the middleware has read the header."""
    del authorization
    return replace(principal_of(request), via="codegen")


Caller = Annotated[Principal, Depends(get_caller)]


async def get_member(org_id: Annotated[int, Path()], principal: Caller) -> Principal:
    """Return the caller, a member of the organization in the path; raise OrganizationForbidden."""
    if org_id != principal.organization_id:
        raise OrganizationForbidden
    return principal


Member = Annotated[Principal, Depends(get_member)]


@contextmanager
def renaming_run_not_found() -> Iterator[None]:
    """Raise RunNotFound with Codegen's text."""
    try:
        yield
    except RunNotFound:
        raise RunNotFound("Agent run not found.") from None
