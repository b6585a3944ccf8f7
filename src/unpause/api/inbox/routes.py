"""The inbox's routes: list and read what waits for people."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.answers import answer, events
from unpause.api.dependencies import App, address_of
from unpause.api.inbox.models import LONGEST_NAME
from unpause.api.inbox.wire import detail_of, frame_of, page_of, read_cursor, read_event_id
from unpause.api.middleware.authentication import count_as_stream
from unpause.api.native import ERRORS, Caller, NativeRoute, model_response
from unpause.api.sse import RETRY, EventStream
from unpause.clock import LONGEST_SECONDS
from unpause.domain.inbox import InboxFilter, Whose
from unpause.domain.principal import Principal
from unpause.services.inbox_feed import InboxSubscription

router = APIRouter(route_class=NativeRoute, tags=["Inbox"], responses=ERRORS)

_LONGEST_CURSOR = 300

Name = Annotated[str | None, Query(max_length=LONGEST_NAME)]
Seconds = Annotated[float | None, Query(ge=0, le=LONGEST_SECONDS, allow_inf_nan=False)]


async def get_decider(
    caller: Caller,
    acting_for: Annotated[
        str | None,
        Query(max_length=LONGEST_NAME, description="Whom a caller without a user of its own acts for"),
    ] = None,
) -> Principal:
    """Return the caller; one without a user of its own acts for the user that it names."""
    return caller.acting_for(acting_for)


Decider = Annotated[Principal, Depends(get_decider)]


def read_filter(  # noqa: PLR0913, PLR0917 - the parameters of the wire
    application: App,
    agent_id: Name = None,
    tool_name: Name = None,
    user_id: Annotated[str | None, Query(max_length=LONGEST_NAME, description="Who started the run")] = None,
    session_id: Name = None,
    older_than: Seconds = None,
    expires_within: Seconds = None,
    in_doubt: Annotated[bool | None, Query()] = None,
    who: Annotated[Literal["mine", "others", "all"], Query()] = "mine",
    id_prefix: Annotated[
        str | None,
        Query(
            pattern=r"^[0-9a-f-]{3,36}$",
            description="How the id of the request, or that of its run, begins; with `who=all` also requests that are "
            "not open any more",
        ),
    ] = None,
) -> InboxFilter:
    """Return which requests are listed; times are seconds from now."""
    now = application.clock.now()
    return InboxFilter(
        whose=Whose(who),
        agent_id=agent_id,
        tool_name=tool_name,
        started_by=user_id,
        session_id=session_id,
        created_before=None if older_than is None else now - timedelta(seconds=older_than),
        expires_before=None if expires_within is None else now + timedelta(seconds=expires_within),
        in_doubt=in_doubt,
        id_prefix=id_prefix,
    )


@router.get(
    "/inbox",
    operation_id="list_inbox",
    response_model=None,
    responses=answer("InboxPage", "What waits, oldest first"),
)
async def list_inbox(
    application: App,
    request: Request,
    caller: Decider,
    selection: Annotated[InboxFilter, Depends(read_filter)],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=_LONGEST_CURSOR)] = None,
) -> Response:
    """Return what waits for people in all runs, oldest first: what the caller may decide, or what others do."""
    page = await application.inbox.list_open(caller, selection, read_cursor(cursor), limit)
    return model_response(page_of(page, address_of(application, request)))


@router.get(
    "/inbox/events",
    operation_id="follow_inbox",
    response_model=None,
    response_class=EventStream,
    status_code=200,
    responses={200: {"content": events("InboxEvent"), "description": "What changes"}},
)
async def follow_inbox(
    application: App,
    request: Request,
    caller: Decider,
    follow: Annotated[bool, Query(description="Whether to wait for more")] = True,  # noqa: FBT002 - a parameter
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=LONGEST_NAME)] = None,
) -> Response:
    """Follow what changes among the requests that the caller sees, with the requests as they stand then.

    To reconnect send the last id as ``Last-Event-ID``: what changed since comes first. Changes of a few seconds before
    it come again, with the same ids. To miss nothing, open the stream before the list is read.
    """
    after, viewer = read_event_id(last_event_id), (caller, address_of(application, request))
    count_as_stream(request)
    if not follow:
        return EventStream(application.feed.catch_up(viewer, frame_of, after))
    return EventStream(application.feed.follow(InboxSubscription(), viewer, frame_of, after), last=RETRY)


@router.get(
    "/inbox/{requirement_id}",
    operation_id="get_inbox_request",
    response_model=None,
    responses=answer("InboxRequestDetail", "The request"),
)
async def get_inbox_request(application: App, request: Request, caller: Decider, requirement_id: str) -> Response:
    """Return one request, also when it is decided, with the last decisions on the same tool."""
    item = await application.inbox.get_item(caller, requirement_id)
    return model_response(detail_of(item, address_of(application, request)))
