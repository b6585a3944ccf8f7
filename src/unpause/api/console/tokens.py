"""The routes of tokens: list, create and revoke those of the organization, for its administrators."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from unpause.api.answers import answer
from unpause.api.dependencies import App
from unpause.api.native import ERRORS, Caller, NativeRoute, model_response, moment, page_of
from unpause.auth.tokens import NewToken
from unpause.domain.scopes import DEFAULT_SCOPES

if TYPE_CHECKING:
    from unpause.domain import tokens

router = APIRouter(route_class=NativeRoute, tags=["Caller"], responses=ERRORS)

_TEN_YEARS = 315_360_000
_MAX_SCOPES = 100
_LONGEST_NAME = 255


class TokenResponse(BaseModel):
    """A token, without its secret. A one-time link to the console is a token, too."""

    token_id: str
    user_id: str | None = Field(description="Its user; null where each request names one")
    name: str | None
    scopes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None
    valid: bool = Field(description="Whether it is neither revoked nor expired")


class TokenPage(BaseModel):
    """Part of a list; ``next`` is the cursor of the next part, null at the end."""

    data: list[TokenResponse]
    next: str | None


class CreatedTokenResponse(BaseModel):
    """A new token with its text, which is shown only now."""

    token: TokenResponse
    text: str


MODELS = (CreatedTokenResponse, TokenPage, TokenResponse)


class CreateTokenRequest(BaseModel):
    """A token to create."""

    # A misspelt `expires_in` would make a token that never expires.
    model_config = ConfigDict(extra="forbid", strict=True)

    user_id: str | None = Field(default=None, max_length=_LONGEST_NAME, description="Default: each request names one")
    name: str | None = Field(default=None, max_length=_LONGEST_NAME, description="To recognize it by")
    scopes: list[Annotated[str, Field(max_length=_LONGEST_NAME)]] = Field(
        default=list(DEFAULT_SCOPES), min_length=1, max_length=_MAX_SCOPES
    )
    expires_in: int | None = Field(
        default=None, ge=1, le=_TEN_YEARS, description="Lifetime in seconds; default: until it is revoked"
    )


@router.get(
    "/tokens",
    operation_id="list_tokens",
    response_model=None,
    responses=answer("TokenPage", "The tokens, newest first"),
)
async def list_tokens(
    application: App,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=32, description="`next` of the page before")] = None,
) -> Response:
    """Return the organization's tokens, newest first, without their secrets."""
    shown, last = page_of(await application.tokens.list_tokens(caller, limit + 1, cursor), limit)
    now = application.clock.now()
    return model_response(
        TokenPage(data=[_token(token, now) for token in shown], next=None if last is None else last.id)
    )


@router.post(
    "/tokens",
    operation_id="create_token",
    response_model=None,
    responses=answer("CreatedTokenResponse", "The token"),
)
async def create_token(application: App, caller: Caller, body: CreateTokenRequest) -> Response:
    """Create a token and return its text, once."""
    lifetime = None if body.expires_in is None else timedelta(seconds=body.expires_in)
    new = NewToken(user_id=body.user_id, name=body.name, scopes=tuple(body.scopes), lifetime=lifetime)
    token, text = await application.tokens.create(caller, new)
    response = model_response(CreatedTokenResponse(token=_token(token, application.clock.now()), text=text))
    response.headers["Cache-Control"] = "no-store"
    return response


@router.delete(
    "/tokens/{token_id}",
    operation_id="revoke_token",
    response_model=None,
    responses=answer("TokenResponse", "The token, revoked"),
)
async def revoke_token(application: App, caller: Caller, token_id: str) -> Response:
    """Revoke a token, and end the console's sessions that it signed in. Revoking it again changes nothing."""
    token = await application.tokens.revoke(caller, token_id)
    return model_response(_token(token, application.clock.now()))


def _token(token: tokens.Token, now: datetime) -> TokenResponse:
    return TokenResponse(
        token_id=token.id,
        user_id=token.user_id,
        name=token.name,
        scopes=list(token.scopes),
        created_at=moment(token.created_at),
        expires_at=_moment(token.expires_at),
        revoked_at=_moment(token.revoked_at),
        last_used_at=_moment(token.last_used_at),
        valid=token.is_valid(now),
    )


def _moment(at: datetime | None) -> str | None:
    return None if at is None else moment(at)
