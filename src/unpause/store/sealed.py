"""All that is stored encrypted, and how it is encrypted again with another key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select, update

from unpause.domain.webhooks import Address
from unpause.errors import SecretsNotKept
from unpause.store.tables import notification_channels, webhook_deliveries, webhook_targets
from unpause.vault import Sealed

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Connection

    from unpause.vault import Vault

# In one transaction, beside a server that writes, too.
_TOGETHER = 200


@dataclass(frozen=True, slots=True)
class SealedColumn:
    """A column with encrypted values; that of an address has the server before it, and perhaps nothing encrypted."""

    column: Column[Any]
    is_address: bool = False

    def seal_again(self, stored: str, vault: Vault) -> str | None:
        """Return the value encrypted with the newest key, None where it is already; raise SecretsNotKept."""
        if not self.is_address:
            return _seal_again(Sealed(stored), vault)
        address = Address.read(stored)
        if isinstance(address.rest, str):
            return None
        token = _seal_again(address.rest, vault)
        return None if token is None else Address(address.server, Sealed(token)).stored


SEALED_COLUMNS = (
    SealedColumn(webhook_targets.c.url, is_address=True),
    SealedColumn(webhook_targets.c.secret),
    SealedColumn(webhook_deliveries.c.url, is_address=True),
    SealedColumn(webhook_deliveries.c.secret),
    SealedColumn(notification_channels.c.url),
)


class SealedAgain(NamedTuple):
    """The result of one transaction: where the next one goes on, None at the end, and how many values were changed."""

    after: Any | None
    changed: int = 0
    unreadable: int = 0


def seal_some_again(connection: Connection, place: SealedColumn, after: Any | None, vault: Vault) -> SealedAgain:  # noqa: ANN401 - a key of either type
    """Encrypt some values of the column again, those after a key; what changes meanwhile stays as it is then."""
    column = place.column
    key = column.table.c.id
    query = select(key, column).where(column.is_not(None)).order_by(key).limit(_TOGETHER)
    rows = connection.execute(query if after is None else query.where(key > after)).all()
    changed = unreadable = 0
    for row_key, stored in rows:
        try:
            value = place.seal_again(stored, vault)
        except SecretsNotKept:
            unreadable += 1
            continue
        if value is not None:
            written = update(column.table).where(key == row_key, column == stored).values({column: value})
            changed += connection.execute(written).rowcount
    return SealedAgain(rows[-1][0] if rows else None, changed, unreadable)


def _seal_again(sealed: Sealed, vault: Vault) -> str | None:
    return None if vault.is_newest(sealed) else vault.seal(vault.open(sealed)).token
