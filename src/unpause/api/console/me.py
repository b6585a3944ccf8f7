"""Who the caller is."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.answers import answer
from unpause.api.dependencies import App
from unpause.api.middleware.console_cookie import cookie_of
from unpause.api.native import ERRORS, Caller, NativeRoute

if TYPE_CHECKING:
    from unpause.bootstrap import Application
    from unpause.domain.principal import Principal

router = APIRouter(route_class=NativeRoute, tags=["Caller"], responses=ERRORS)


class MeResponse(BaseModel):
    """The caller."""

    user_id: str | None = Field(description="The authenticated user; null for a program that acts for users of its own")
    name: str | None = Field(description="Its name in the audit trail")
    organization_id: int
    organization_name: str
    scopes: list[str] = Field(description="What it may do; empty on a server without authentication")
    is_admin: bool = Field(description="Whether it may do everything in its organization")
    authenticated: bool = Field(description="False on a server without authentication")
    expires_at: datetime | None = Field(description="When the session or the token expires, if that is known")


@router.get("/me", operation_id="get_me", response_model=None, responses=answer("MeResponse", "The caller"))
async def get_me(application: App, caller: Caller, request: Request) -> Response:
    """Return who the caller is, what it may do, and until when."""
    organization = await application.users.get_organization(caller)
    me = MeResponse(
        user_id=caller.subject,
        name=caller.name,
        organization_id=organization.id,
        organization_name=organization.name,
        scopes=sorted(caller.scopes or ()),
        is_admin=caller.is_admin,
        authenticated=not application.authenticator.is_open,
        expires_at=await _expiry(application, caller, request),
    )
    return Response(to_json(me), media_type="application/json")


async def _expiry(application: Application, caller: Principal, request: Request) -> datetime | None:
    """Return when the console's session or the token expires; None for a JWT, and for a token that does not."""
    if caller.token_id is None:
        return None
    cookie = cookie_of(request.scope, application.settings.public_url)
    if cookie is not None and "authorization" not in request.headers:
        return (await application.console_sessions.get_session(cookie)).expires_at
    return await application.authenticator.expiry_of(caller.token_id)
