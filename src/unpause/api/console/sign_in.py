"""Signs browsers in and out. Only pages of this server may ask for it: see ``middleware/console_cookie.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.dependencies import App
from unpause.api.middleware.authentication import address_of_client
from unpause.api.middleware.console_cookie import check_same_origin, cookie_of, delete_cookie, set_cookie
from unpause.api.native import NativeRoute
from unpause.api.rate_limits import Bucket, RateLimits
from unpause.errors import RateLimited

if TYPE_CHECKING:
    from unpause.auth.console_sessions import SignedIn
    from unpause.bootstrap import Application

_NO_CONTENT = 204
_LONGEST = 16_384
_NOT_STORED = {"Cache-Control": "no-store"}


async def _check_origin(request: Request, application: App) -> None:
    """Raise ForeignPage unless a page of this server sends the request: another one could sign its own user in."""
    check_same_origin(request.scope, application.settings.public_url)


router = APIRouter(route_class=NativeRoute, include_in_schema=False, dependencies=[Depends(_check_origin)])


class SignInRequest(BaseModel):
    """A token of this server."""

    token: Annotated[str, Field(min_length=1, max_length=_LONGEST)]


class LinkRequest(BaseModel):
    """The code of a one-time link."""

    code: Annotated[str, Field(min_length=1, max_length=_LONGEST)]


async def _count(request: Request) -> None:
    """Count an attempt of the client's address; raise RateLimited over the limit."""
    limits: RateLimits = request.app.state.rate_limits
    state = await limits.add(Bucket.SIGN_IN, address_of_client(request.scope) or "unknown")
    if state is not None and state.is_over:
        raise RateLimited(state.resets_in)


@router.post("/console/sign-in", dependencies=[Depends(_count)])
async def sign_in(body: SignInRequest, request: Request, application: App) -> Response:
    """Sign in with a token."""
    signed_in = await application.console_sessions.sign_in(body.token.strip(), address_of_client(request.scope))
    return await _welcome(application, request, signed_in)


@router.post("/console/login", dependencies=[Depends(_count)])
async def sign_in_by_link(body: LinkRequest, request: Request, application: App) -> Response:
    """Sign in with the code of a one-time link."""
    signed_in = await application.console_sessions.sign_in_by_link(body.code, address_of_client(request.scope))
    return await _welcome(application, request, signed_in)


@router.post("/console/sign-out")
async def sign_out(request: Request, application: App) -> Response:
    """End the session and have the browser forget it; one that has ended already is no error."""
    await _end_session(application, request)
    response = Response(status_code=_NO_CONTENT, headers=_NOT_STORED)
    delete_cookie(response, request.scope, application.settings.public_url)
    return response


async def _welcome(application: Application, request: Request, signed_in: SignedIn) -> Response:
    """Return the response with the new cookie; the session that it replaces ends."""
    await _end_session(application, request)
    seconds = int((signed_in.expires_at - application.clock.now()).total_seconds())
    response = Response(status_code=_NO_CONTENT, headers=_NOT_STORED)
    set_cookie(response, request.scope, application.settings.public_url, signed_in.cookie, seconds)
    return response


async def _end_session(application: Application, request: Request) -> None:
    cookie = cookie_of(request.scope, application.settings.public_url)
    if cookie is not None:
        await application.console_sessions.sign_out(cookie, address_of_client(request.scope))
