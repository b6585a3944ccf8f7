"""The use cases of channels: list, add, remove and test them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.notifications import ALL_EVENTS, TEST_BODY, TEST_TITLE, Channel, ChannelEvent, channel_details
from unpause.errors import Denied, InvalidInput, NotFound, SecretsNotKept
from unpause.store.audit import add_entries
from unpause.store.channels import add_channel, count_channels, delete_channel, find_channel, list_channels
from unpause.store.users import lock_organization

if TYPE_CHECKING:
    from unpause.clock import Clock
    from unpause.domain.principal import Principal
    from unpause.domain.webhooks import DeliveryResult
    from unpause.notifications.sender import AppriseSender
    from unpause.store.engine.database import Connection, Database
    from unpause.vault import Vault

_MAX_CHANNELS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChannel:
    """A channel to add: the caller's own, or the organization's."""

    url: str
    events: tuple[ChannelEvent, ...] = ALL_EVENTS
    name: str | None = None
    is_own: bool = True


class ChannelService:
    """The use cases of channels: users have their own; administrators have those of the organization, and see all."""

    def __init__(self, database: Database, clock: Clock, vault: Vault, sender: AppriseSender) -> None:
        self._database = database
        self._clock = clock
        self._vault = vault
        self._sender = sender

    async def list_channels(self, principal: Principal, after: int, limit: int) -> list[Channel]:
        """Return the channels with ids over ``after`` that the caller may see; none for a caller without a user."""
        if not principal.is_admin and principal.subject is None:
            return []
        return await self._database.read(
            lambda connection: list_channels(connection, principal.organization_id, _seen_by(principal), after, limit)
        )

    async def add_channel(self, principal: Principal, new: NewChannel) -> Channel:
        """Store a checked channel with its URL encrypted, and return it.

        Raises Denied for one of the organization by anybody but its administrators, SecretsNotKept where the server
        has no key, InvalidInput for a URL that cannot be used, for one of their own by a caller without a user, and for
        too many.
        """
        channel = await self._build(principal, new)

        def unit(connection: Connection) -> Channel:
            # Two at once would else both count.
            lock_organization(connection, channel.organization_id)
            if count_channels(connection, channel.organization_id, channel.user_id) >= _MAX_CHANNELS:
                raise InvalidInput(f"There are {_MAX_CHANNELS} channels already; remove one first")
            key = add_channel(connection, channel)
            self._record(connection, principal, AuditAction.CHANNEL_ADDED, channel, key)
            return _found(find_channel(connection, channel.organization_id, None, key))

        return await self._database.write(unit)

    async def remove_channel(self, principal: Principal, key: int) -> None:
        """Delete a channel with what was still to be sent to it; raise NotFound for one that the caller may not see."""

        def unit(connection: Connection) -> None:
            channel = self._find(connection, principal, key)
            if not delete_channel(connection, key):
                # By another request, since it was found.
                raise NotFound(_NO_CHANNEL)
            self._record(connection, principal, AuditAction.CHANNEL_REMOVED, channel, key)

        await self._database.write(unit)

    async def send_test(self, principal: Principal, key: int) -> DeliveryResult:
        """Send a test message now and return the result; there is no retry. Raises NotFound."""
        channel = await self._database.read(lambda connection: self._find(connection, principal, key))
        return await self._sender.send_text(channel.id, channel.url, (TEST_TITLE, TEST_BODY))

    async def _build(self, principal: Principal, new: NewChannel) -> Channel:
        if not new.is_own and not principal.is_admin:
            raise Denied("Only administrators may add a channel of the organization")
        if new.is_own and (principal.subject is None or principal.session_id is not None):
            raise InvalidInput("The token names no user, or is for one session: only a user has channels of their own")
        if not new.events:
            raise InvalidInput("A channel needs at least one event")
        if not self._vault.keeps_secrets:
            raise SecretsNotKept
        kind = await self._sender.check_url(new.url)
        return Channel(
            organization_id=principal.organization_id,
            user_id=principal.subject if new.is_own else None,
            name=new.name,
            kind=kind,
            url=self._vault.encrypt(new.url),
            events=tuple(dict.fromkeys(new.events)),
            scopes=principal.scopes if new.is_own else None,
            token_id=principal.token_id if new.is_own else None,
            is_isolated=principal.is_isolated,
            created_at=self._clock.now(),
        )

    def _find(self, connection: Connection, principal: Principal, key: int) -> Channel:
        if not principal.is_admin and principal.subject is None:
            raise NotFound(_NO_CHANNEL)
        return _found(find_channel(connection, principal.organization_id, _seen_by(principal), key))

    def _record(
        self, connection: Connection, principal: Principal, action: AuditAction, channel: Channel, key: int
    ) -> None:
        details = channel_details(channel)
        add_entries(connection, [entry_by(principal, action, self._clock.now(), subject=str(key), details=details)])


_NO_CHANNEL = "Channel not found"


def _seen_by(principal: Principal) -> str | None:
    """Return the user whose channels the caller sees; None for all."""
    return None if principal.is_admin else principal.subject


def _found(channel: Channel | None) -> Channel:
    if channel is None:
        raise NotFound(_NO_CHANNEL)
    return channel
