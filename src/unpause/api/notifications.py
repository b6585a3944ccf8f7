"""The routes for channels of notifications."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from unpause.api.dependencies import App
from unpause.api.documented_headers import RATE_LIMIT
from unpause.api.native import ERRORS, RATE_LIMITED, Caller, NativeRoute, get_caller, page_of
from unpause.api.rate_limits import Bucket, limited
from unpause.domain.notifications import ALL_EVENTS, Channel, ChannelEvent
from unpause.notifications.kinds import LONGEST_URL
from unpause.notifications.service import NewChannel

router = APIRouter(route_class=NativeRoute, tags=["Notifications"], responses=ERRORS)

_CHANNELS = "/notifications/channels"
_ONE = f"{_CHANNELS}/{{channel_id}}"
_LARGEST_KEY = 2**63 - 1

_ChannelId = Annotated[int, Path(ge=1, le=_LARGEST_KEY, description="Id of the channel")]


class ChannelRequest(BaseModel):
    """A channel to add."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    url: str = Field(
        min_length=1, max_length=LONGEST_URL, repr=False, description="URL of apprise, such as `ntfys://…`; a secret"
    )
    name: str | None = Field(default=None, min_length=1, max_length=255, description="Name to recognize it by")
    events: list[ChannelEvent] = Field(
        default=list(ALL_EVENTS), min_length=1, max_length=len(ALL_EVENTS), description="What it tells about"
    )
    owner: Literal["user", "organization"] = Field(
        default="user", description="Whose it is; the organization's are for administrators"
    )


class ChannelResponse(BaseModel):
    """A channel; its URL is never returned."""

    channel_id: int
    name: str | None
    kind: str = Field(description="Scheme of its URL, such as `slack`")
    owner: Literal["user", "organization"]
    user_id: str | None
    events: list[ChannelEvent]
    created_at: datetime
    last_sent_at: datetime | None = Field(description="When a message was last delivered")
    last_error: str | None = Field(description="Why the last attempt failed")


class ChannelListResponse(BaseModel):
    """A page of channels; `next` is the cursor of the page after it."""

    data: list[ChannelResponse]
    next: int | None


class ChannelTestResponse(BaseModel):
    """The result of a test message."""

    success: bool
    error: str | None


@router.get(_CHANNELS, operation_id="list_notification_channels")
async def list_channels(
    application: App,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[int, Query(ge=0, le=_LARGEST_KEY)] = 0,
) -> ChannelListResponse:
    """Return the caller's channels, and for an administrator all of the organization; never their URLs."""
    shown, last = page_of(await application.channels.list_channels(caller, cursor, limit + 1), limit)
    return ChannelListResponse(data=[_channel(each) for each in shown], next=None if last is None else last.id)


@router.post(
    _CHANNELS,
    operation_id="add_notification_channel",
    status_code=201,
    dependencies=limited(Bucket.CHANGE, get_caller),
    responses={**RATE_LIMITED, 201: {"headers": RATE_LIMIT}},
)
async def add_channel(application: App, caller: Caller, body: ChannelRequest) -> ChannelResponse:
    """Add a channel. One of a user tells about what that user may decide, and about their runs.

    The URL is encrypted; a user's channel ends with the token that added it.
    """
    new = NewChannel(url=body.url, events=tuple(body.events), name=body.name, is_own=body.owner == "user")
    return _channel(await application.channels.add_channel(caller, new))


@router.delete(_ONE, operation_id="remove_notification_channel", status_code=204)
async def remove_channel(application: App, caller: Caller, channel_id: _ChannelId) -> None:
    """Remove a channel, with what was still to be sent to it."""
    await application.channels.remove_channel(caller, channel_id)


@router.post(
    f"{_ONE}/test",
    operation_id="test_notification_channel",
    dependencies=limited(Bucket.WEBHOOK_TEST, get_caller),
    responses={**RATE_LIMITED, 200: {"headers": RATE_LIMIT}},
)
async def test_channel(application: App, caller: Caller, channel_id: _ChannelId) -> ChannelTestResponse:
    """Send one test message to the channel now, and return the result."""
    sent = await application.channels.send_test(caller, channel_id)
    return ChannelTestResponse(success=sent.success, error=sent.error)


def _channel(channel: Channel) -> ChannelResponse:
    return ChannelResponse(
        channel_id=channel.id,
        name=channel.name,
        kind=channel.kind,
        owner="organization" if channel.user_id is None else "user",
        user_id=channel.user_id,
        events=list(channel.events),
        created_at=channel.created_at,
        last_sent_at=channel.last_sent_at,
        last_error=channel.last_error,
    )
