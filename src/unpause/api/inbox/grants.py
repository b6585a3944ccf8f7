"""The routes of grants: list and revoke decisions that count for later calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from unpause.api.answers import answer
from unpause.api.dependencies import App
from unpause.api.native import ERRORS, Caller, NativeRoute, model_response, moment, page_of
from unpause.domain import grants
from unpause.domain.grants import GrantFilter, GrantMatch, GrantScope

if TYPE_CHECKING:
    from datetime import datetime

router = APIRouter(route_class=NativeRoute, tags=["Inbox"], responses=ERRORS)

Name = Annotated[str | None, Query(max_length=255)]


class Grant(BaseModel):
    """A decision that counts for later calls; every key is always there."""

    grant_id: str = Field(description="The requirement whose decision it remembers")
    agent_id: str
    tool_name: str
    scope: GrantScope
    session_id: str | None = Field(description="The session that it is bound to; null for all of the user's")
    run_id: str | None
    user_id: str | None = Field(description="The user whose runs it is for")
    until: str | None = Field(description="When it ends")
    match: GrantMatch
    arguments: dict[str, Any] | None = Field(description="The arguments that a call must have; null for any")
    granted_by: str | None
    created_at: str
    revoked_at: str | None
    revoked_by: str | None
    uses: int = Field(description="How many calls it has decided")
    last_used_at: str | None
    active: bool = Field(description="Whether it still decides: not revoked, not expired, its token valid")


class GrantPage(BaseModel):
    """Part of a list; ``next`` is the cursor of the next part, null at the end."""

    data: list[Grant]
    next: str | None


MODELS = (Grant, GrantPage)


def read_filter(
    agent_id: Name = None,
    tool_name: Name = None,
    session_id: Name = None,
    active: Annotated[bool | None, Query()] = None,
) -> GrantFilter:
    """Return which grants are listed."""
    return GrantFilter(agent_id, tool_name, session_id, active)


@router.get(
    "/grants",
    operation_id="list_grants",
    response_model=None,
    responses=answer("GrantPage", "The grants, newest first"),
)
async def list_grants(
    application: App,
    caller: Caller,
    selection: Annotated[GrantFilter, Depends(read_filter)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=36, description="`next` of the page before")] = None,
) -> Response:
    """Return the decisions that count for later calls, newest first: in force or not."""
    found = await application.grants.list_grants(caller, selection, limit=limit + 1, after=cursor)
    shown, last = page_of(found, limit)
    return model_response(
        GrantPage(data=[grant_json(grant) for grant in shown], next=None if last is None else last.id)
    )


@router.delete(
    "/grants/{grant_id}",
    operation_id="revoke_grant",
    response_model=None,
    responses=answer("Grant", "The grant, revoked"),
)
async def revoke_grant(application: App, caller: Caller, grant_id: str) -> Response:
    """Revoke a grant: the next call waits for people again. Revoking it again changes nothing."""
    grant = await application.grants.revoke_grant(caller, grant_id)
    return model_response(grant_json(grant))


def grant_json(grant: grants.Grant) -> Grant:
    """Return the grant as clients read it."""
    return Grant(
        grant_id=grant.id,
        agent_id=grant.agent_id,
        tool_name=grant.tool_name,
        scope=grant.scope,
        session_id=grant.session_id,
        run_id=grant.run_id,
        user_id=grant.user_id,
        until=_moment(grant.expires_at),
        match=grant.match,
        arguments=grant.arguments,
        granted_by=grant.granted_by,
        created_at=moment(grant.created_at),
        revoked_at=_moment(grant.revoked_at),
        revoked_by=grant.revoked_by,
        uses=grant.uses,
        last_used_at=_moment(grant.last_used_at),
        active=grant.active,
    )


def _moment(at: datetime | None) -> str | None:
    return None if at is None else moment(at)
