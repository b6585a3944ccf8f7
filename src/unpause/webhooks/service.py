"""The use cases of an organization's webhook: read it, replace it, test it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.json import dump_json
from unpause.domain.urls import read_url, refuse_private
from unpause.domain.webhooks import Address, Delivery, DeliveryResult, WebhookTarget, split_url
from unpause.errors import SecretsNotKept
from unpause.store.audit import add_entries
from unpause.store.deliveries import list_waiting_targets, readdress_waiting
from unpause.store.webhooks import find_organization_target, replace_organization_target
from unpause.vault import UNREADABLE
from unpause.webhooks.sender import check_secret, decrypt_url

if TYPE_CHECKING:
    from unpause.clock import Clock, Ids
    from unpause.domain.principal import Principal
    from unpause.store.engine.database import Connection, Database
    from unpause.vault import Vault
    from unpause.webhooks.sender import MessageSender

_TEST = "agent_run.test"


class WebhookService:
    """The use cases of webhooks. Private addresses are refused unless ``allow_private``."""

    def __init__(
        self, database: Database, clock: Clock, ids: Ids, vault: Vault, sender: MessageSender, *, allow_private: bool
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._vault = vault
        self._sender = sender
        self._allow_private = allow_private

    def build_target(self, url: str, secret: str | None = None, *, enabled: bool = True) -> WebhookTarget:
        """Return a checked target with its secrets encrypted; nothing is stored yet.

        With a key the address is encrypted too: often its path and query are all that anybody needs to send there. A
        fragment is dropped.

        Raises InvalidInput for an address or a secret that cannot be used, SecretsNotKept for any secret where the
        server has no key. What a name resolves to is checked at each delivery.
        """
        self._check(url)
        address = self._encrypt(url)
        if secret is None:
            return WebhookTarget(address, enabled=enabled)
        check_secret(secret)
        return WebhookTarget(address, self._vault.encrypt(secret), enabled)

    def target_url(self, target: WebhookTarget) -> str:
        """Return the URL of a target; only its server where the rest cannot be decrypted any more."""
        try:
            return decrypt_url(target.address, self._vault)
        except SecretsNotKept:
            return target.address.server

    async def find_target(self, principal: Principal) -> WebhookTarget | None:
        """Return the target of the organization, enabled or not."""
        organization_id = principal.organization_id
        return await self._database.read(lambda connection: find_organization_target(connection, organization_id))

    async def replace_target(self, principal: Principal, target: WebhookTarget | None) -> None:
        """Replace the organization's target; None removes it.

        Messages that wait for the previous one go to the new one, signed with its secret: the previous address may be
        gone, and its secret known to others. Where it is removed or disabled they go to nobody.
        """
        now = self._clock.now()
        # Not the address: it may hold a token.
        details = {"server": read_url(target.address.server).host if target is not None else None}
        done = entry_by(principal, AuditAction.WEBHOOK_CHANGED, now, details=details)

        def unit(connection: Connection) -> None:
            previous = replace_organization_target(connection, principal.organization_id, target, now)
            if previous is not None:
                self._readdress(connection, principal.organization_id, previous, target)
            elif target is None:
                # Another request has removed it.
                return
            add_entries(connection, [done])

        await self._database.write(unit)

    async def send_test(self, principal: Principal, url: str) -> DeliveryResult:
        """Send one message to the address now and return the result; there is no retry.

        To the organization's own target it is signed like any other message. Raises InvalidInput for an address that
        cannot be used.
        """
        self._check(url)
        address = Address(*split_url(url))
        configured = await self.find_target(principal)
        own = None
        if configured is not None and configured.address.server == address.server:
            try:
                # No other address gets a message signed with its secret.
                own = configured if decrypt_url(configured.address, self._vault) == address.stored else None
            except SecretsNotKept:
                # It may be this address, and its messages are signed.
                return DeliveryResult(error=UNREADABLE)
        now = self._clock.now()
        payload = {"type": _TEST, "timestamp": now.isoformat(), "data": {"organization_id": principal.organization_id}}
        delivery = Delivery(
            id=f"msg_{self._ids.fresh().replace('-', '')}",
            organization_id=principal.organization_id,
            address=address,
            payload=dump_json(payload),
            created_at=now,
            secret=own.secret if own is not None else None,
        )
        return await self._sender.send_message(delivery)

    def _readdress(
        self, connection: Connection, organization_id: int, previous: WebhookTarget, target: WebhookTarget | None
    ) -> None:
        new = target if target is not None and target.enabled else None
        old = self._content(previous)
        for stored in list_waiting_targets(connection, organization_id):
            # Each value is encrypted in its own way once keys were rotated.
            if stored.address.server == previous.address.server and self._content(stored) == old:
                readdress_waiting(connection, organization_id, stored, new)

    def _content(self, target: WebhookTarget) -> tuple[str, str | None]:
        """Return the target's URL and secret, to compare it with another one."""
        address, secret = target.address, target.secret
        try:
            return decrypt_url(address, self._vault), None if secret is None else self._vault.decrypt(secret)
        except SecretsNotKept:
            return address.stored, None if secret is None else secret.token

    def _encrypt(self, url: str) -> Address:
        vault = self._vault
        server, rest = split_url(url)
        return Address(server, vault.encrypt(rest) if vault.keeps_secrets else rest)

    def _check(self, url: str) -> None:
        read = read_url(url)
        if not self._allow_private:
            refuse_private(read)
