"""Dependencies of the routes of all APIs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends
from starlette.requests import Request

from unpause.api.permissions import principal_of
from unpause.bootstrap import Application
from unpause.errors import UserMissing

if TYPE_CHECKING:
    from unpause.domain.principal import Principal


async def get_application(request: Request) -> Application:
    """Return the application; async, because FastAPI runs plain functions in a thread."""
    application: Application = request.app.state.application
    return application


def identify_caller(request: Request, application: Application, via: str) -> Principal:
    """Return the caller of the API ``via``; where the settings isolate users, it sees nothing of other users.

    Raises UserMissing there for a JWT that names no user, which would see everything.
    """
    principal = replace(principal_of(request), via=via, is_isolated=application.settings.user_isolation)
    if principal.is_isolated and principal.is_nameless_jwt and not principal.is_admin:
        raise UserMissing
    return principal


def address_of(application: Application, request: Request) -> str:
    """Return this server's URL for links, without a trailing slash."""
    return (application.settings.public_url or str(request.base_url)).rstrip("/")


App = Annotated[Application, Depends(get_application)]
