"""Where an organization hears of its runs: told, changed, and tried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.urls import read_url, refuse_private
from unpause.domain.webhooks import Address, Delivery, Sent, WebhookTarget, split_url
from unpause.errors import SecretsNotKept
from unpause.store.audit import add_entries
from unpause.store.json import dump_json
from unpause.store.webhooks import find_organization_target, replace_organization_target
from unpause.webhooks.signing import check_secret

if TYPE_CHECKING:
    from unpause.clock import Clock, Ids
    from unpause.domain.principal import Principal
    from unpause.store.engine.database import Connection, Database
    from unpause.vault import Vault

_TEST = "agent_run.test"


class MessageSender(Protocol):
    """Sends one message once."""

    async def send_message(self, delivery: Delivery) -> Sent:
        """Send it signed, if it has a secret; return what came of it, and raise nothing for what others cause."""
        ...


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

    def make_target(self, url: str, secret: str | None = None, *, enabled: bool = True) -> WebhookTarget:
        """Return a checked target with its secrets encrypted; nothing is stored yet.

        The address is one of them, where the server has a key: the path and query of many are all that it takes to
        send there. A fragment is left out.

        Raises InvalidInput for an address or a secret that cannot be used, SecretsNotKept for any secret where the
        server has no key to encrypt it with. What a name resolves to is looked at whenever a message is sent.
        """
        self._check(url)
        address = self._seal(url)
        if secret is None:
            return WebhookTarget(address, enabled=enabled)
        check_secret(secret)
        return WebhookTarget(address, self._vault.seal(secret), enabled)

    def url_of(self, target: WebhookTarget) -> str:
        """Return where its messages go; only the server, where the rest cannot be decrypted any more."""
        try:
            return url_of(target.address, self._vault)
        except SecretsNotKept:
            return target.address.server

    async def find_target(self, principal: Principal) -> WebhookTarget | None:
        """Return who hears of the organization's runs, enabled or not."""
        organization_id = principal.organization_id
        return await self._database.read(lambda connection: find_organization_target(connection, organization_id))

    async def replace_target(self, principal: Principal, target: WebhookTarget | None) -> None:
        """Let this one hear of the organization's runs from now on instead of the one before; with None nobody.

        What was already to be told to the one before is still told.
        """
        now = self._clock.now()
        # Not the address: it may hold a token.
        details = {"server": read_url(target.address.server).host if target is not None else None}
        done = entry_by(principal, AuditAction.WEBHOOK_CHANGED, now, details=details)

        def unit(connection: Connection) -> None:
            replace_organization_target(connection, principal.organization_id, target, now)
            add_entries(connection, [done])

        await self._database.write(unit)

    async def send_test(self, principal: Principal, url: str) -> Sent:
        """Send one message to the address now and return what came of it; it is not tried again.

        To the organization's own address it is signed as others are. Raises InvalidInput for an address that cannot be
        used.
        """
        self._check(url)
        address = Address(*split_url(url))
        configured = await self.find_target(principal)
        # To any other address without its secret.
        own = configured if configured is not None and self.url_of(configured) == address.stored else None
        now = self._clock.now()
        told = {"type": _TEST, "timestamp": now.isoformat(), "data": {"organization_id": principal.organization_id}}
        delivery = Delivery(
            id=f"msg_{self._ids.fresh().replace('-', '')}",
            organization_id=principal.organization_id,
            address=address,
            payload=dump_json(told),
            created_at=now,
            secret=own.secret if own is not None else None,
        )
        return await self._sender.send_message(delivery)

    def _seal(self, url: str) -> Address:
        vault = self._vault
        server, rest = split_url(url)
        return Address(server, vault.seal(rest) if vault.keeps_secrets else rest)

    def _check(self, url: str) -> None:
        read = read_url(url)
        if not self._allow_private:
            refuse_private(read)


def url_of(address: Address, vault: Vault) -> str:
    """Return the URL; raise SecretsNotKept where no key fits any more."""
    return address.server + (address.rest if isinstance(address.rest, str) else vault.open(address.rest))
