"""Stores notifications for channels, in the transaction of the change that each describes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from unpause.domain.notifications import ChannelEvent, Notification
from unpause.domain.runs import RunStatus
from unpause.services.decisions import may_see, refusal_of
from unpause.store.channels import list_valid_channels
from unpause.store.notifications import add_notifications
from unpause.store.requirements import list_authors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from unpause.domain.notifications import Channel
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection


def enqueue_notifications(
    connection: Connection,
    run: Run,
    now: datetime,
    requirements: Sequence[Requirement] = (),
    *,
    event: ChannelEvent = ChannelEvent.WAITING,
) -> None:
    """Store a notification for each channel that has this event: of a run that ended as ERROR, or of open requests.

    ``event`` is that of the requests, but IN_DOUBT for one in doubt. The requests have to be stored already.
    """
    if run.status is not RunStatus.ERROR and not requirements:
        return
    channels = list_valid_channels(connection, run.organization_id, now)
    if run.status is RunStatus.ERROR:
        failed = [channel for channel in channels if channel.user_id in {None, run.user_id}]
        added = [_failure(channel, run, now) for channel in failed if ChannelEvent.FAILED in channel.events]
    else:
        added = [
            _request(channel, run, each, kind, now)
            for each in requirements
            for channel in channels
            if (kind := _event_of(each, event)) in channel.events and _concerns(connection, run, each, channel)
        ]
    add_notifications(connection, run.organization_id, added)


def _event_of(requirement: Requirement, event: ChannelEvent) -> ChannelEvent:
    is_new_doubt = requirement.in_doubt and event is ChannelEvent.WAITING
    return ChannelEvent.IN_DOUBT if is_new_doubt else event


def _concerns(connection: Connection, run: Run, requirement: Requirement, channel: Channel) -> bool:
    """Whether the channel is the organization's, or its user may decide the request or has started the run."""
    if channel.user_id is None or channel.user_id == run.user_id:
        return True
    owner, authors = channel.owner, partial(list_authors, connection, run.id, requirement.pause_id)
    return may_see(owner, run, requirement) and refusal_of(owner, run, requirement, authors) is None


def _failure(channel: Channel, run: Run, now: datetime) -> Notification:
    return Notification(channel.id, ChannelEvent.FAILED, run.run_id, run.run_id, run.agent_id, None, None, now)


def _request(channel: Channel, run: Run, requirement: Requirement, event: ChannelEvent, now: datetime) -> Notification:
    return Notification(
        channel_id=channel.id,
        event=event,
        subject=requirement.id,
        run_id=run.run_id,
        agent_id=run.agent_id,
        tool_name=requirement.tool_name,
        expires_at=requirement.expires_at,
        created_at=now,
    )
