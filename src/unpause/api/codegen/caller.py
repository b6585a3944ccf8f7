"""Who asks through Codegen's API, and what its answers link to."""

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

    from unpause.bootstrap import Application


# The original says no type of the header. It is text: without a type openapi-python-client writes no operation at all.
async def get_caller(request: Request, authorization: Annotated[str | None, Header()] = None) -> Principal:
    """Return who asks: what the header says was read before."""
    del authorization
    return replace(principal_of(request), via="codegen")


Caller = Annotated[Principal, Depends(get_caller)]


async def get_member(org_id: Annotated[int, Path()], principal: Caller) -> Principal:
    """Return who asks, as a member of the organization in the path; raise OrganizationForbidden."""
    if org_id != principal.organization_id:
        raise OrganizationForbidden
    return principal


Member = Annotated[Principal, Depends(get_member)]


def address_of(application: Application, request: Request) -> str:
    """Return this server's address for links, without a slash at its end."""
    return (application.settings.public_url or str(request.base_url)).rstrip("/")


@contextmanager
def naming_agent_run() -> Iterator[None]:
    """Say of a run that is not found what Codegen says of it (codegen.md section 4)."""
    try:
        yield
    except RunNotFound:
        raise RunNotFound("Agent run not found.") from None
