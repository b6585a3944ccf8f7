"""Notifications: channels that tell people about requests and runs, and the events that they tell about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from unpause.domain.principal import Principal
from unpause.vault import Encrypted

TEST_TITLE = "Unpause: a test message"
TEST_BODY = "This channel can be reached."

# A digest lists so many; the console has all.
_MAX_LISTED = 20


class ChannelEvent(StrEnum):
    """What a channel may tell about: a request of a paused run, or a run that ended as ERROR."""

    WAITING = "waiting"
    EXPIRES_SOON = "expires_soon"
    IN_DOUBT = "in_doubt"
    FAILED = "failed"


ALL_EVENTS = tuple(ChannelEvent)

_TITLES: Mapping[ChannelEvent, str] = {
    ChannelEvent.WAITING: "{agent} waits for you: {tool}",
    ChannelEvent.EXPIRES_SOON: "{agent} still waits for you: {tool}",
    ChannelEvent.IN_DOUBT: "{agent}: {tool} may already have run",
    ChannelEvent.FAILED: "A run of {agent} failed",
}
_BODIES: Mapping[ChannelEvent, str] = {
    ChannelEvent.WAITING: "The run is paused until somebody decides.{expires}",
    ChannelEvent.EXPIRES_SOON: "Nobody has decided yet.{expires}",
    ChannelEvent.IN_DOUBT: "The call had started when its process ended; somebody has to decide whether it runs again.",
    ChannelEvent.FAILED: "It ended as ERROR.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Where notifications go: a URL of apprise, encrypted; ``kind`` is its scheme.

    Without a ``user_id`` it belongs to the organization. One of a user tells only about what that user may decide, with
    the ``scopes`` of the token that created it, and about that user's runs; None are all scopes. ``is_isolated`` is as
    in the user's requests.
    """

    organization_id: int
    kind: str
    url: Encrypted
    events: tuple[ChannelEvent, ...]
    created_at: datetime
    name: str | None = None
    user_id: str | None = None
    scopes: frozenset[str] | None = None
    token_id: str | None = None
    is_isolated: bool = True
    last_sent_at: datetime | None = None
    last_error: str | None = None
    id: int = 0

    @property
    def owner(self) -> Principal:
        """The user of the channel as the caller of a request."""
        return Principal(
            self.organization_id,
            self.user_id,
            via="unpause",
            subject=self.user_id,
            scopes=self.scopes,
            token_id=self.token_id,
            is_isolated=self.is_isolated,
        )


@dataclass(frozen=True, slots=True)
class Notification:
    """One fact for one channel. ``subject`` is the id of the request, or of the run that failed."""

    channel_id: int
    event: ChannelEvent
    subject: str
    run_id: str
    agent_id: str
    tool_name: str | None
    expires_at: datetime | None
    created_at: datetime

    @property
    def id(self) -> str:
        """The same for the same fact and channel."""
        return f"ntf_{self.subject.replace('-', '')}_{self.event}_{self.channel_id}"

    @property
    def path(self) -> str:
        """The page of the console that it is about."""
        is_run = self.event is ChannelEvent.FAILED
        return f"/console/runs/{self.run_id}" if is_run else f"/console/requests/{self.subject}"

    @property
    def title(self) -> str:
        """What happened, in one line: without arguments, which may be for deciders only."""
        return _TITLES[self.event].format(agent=self.agent_id, tool=self.tool_name)

    @property
    def body(self) -> str:
        """What that means."""
        expires = f" It expires at {self.expires_at:%Y-%m-%d %H:%M} UTC." if self.expires_at else ""
        return _BODIES[self.event].format(expires=expires)


@dataclass(frozen=True, slots=True)
class NotificationMessage:
    """What one attempt sends to a channel: one notification, or several as a digest.

    ``id`` names the attempt. ``attempts`` is that of the notification with the most.
    """

    id: str
    channel: Channel
    notifications: tuple[Notification, ...]
    attempts: int

    @property
    def organization_id(self) -> int:
        """The organization of the channel."""
        return self.channel.organization_id

    @property
    def server(self) -> str:
        """The receiver whose attempts are limited: one at a time for a channel."""
        return f"channel {self.channel.id}"

    def text(self, address: str) -> tuple[str, str]:
        """Return its title and body; ``address`` is this server's URL."""
        if len(self.notifications) == 1:
            [only] = self.notifications
            return only.title, f"{only.body}\n{address}{only.path}"
        shown = self.notifications[:_MAX_LISTED]
        lines = [f"{each.title}\n{address}{each.path}" for each in shown]
        left = len(self.notifications) - len(shown)
        if left:
            lines.append(f"and {left} more: {address}/console")
        return f"Unpause: {len(self.notifications)} notifications", "\n".join(lines)


def channel_details(channel: Channel) -> dict[str, Any]:
    """Return what the audit trail keeps of a channel: not its URL."""
    return {"kind": channel.kind, "user_id": channel.user_id, "events": [str(event) for event in channel.events]}
