"""The columns with encrypted values, and how these are encrypted again with a new key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select, text, update

from unpause.domain.webhooks import Address
from unpause.errors import SecretsNotKept
from unpause.store.engine.dialects import is_shared
from unpause.store.tables import notification_channels, webhook_deliveries, webhook_targets
from unpause.vault import Encrypted

if TYPE_CHECKING:
    from sqlalchemy import Column
    from sqlalchemy.engine import Connection

    from unpause.vault import Vault

_READERS = text(
    "SELECT virtualtransaction FROM pg_locks WHERE relation = CAST(:name AS regclass)"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()"
)
# Rows of one transaction: a server may write beside it.
_BATCH = 200


@dataclass(frozen=True, slots=True)
class EncryptedColumn:
    """A column with encrypted values. An address has its server in plain text, and may have nothing encrypted."""

    column: Column[Any]
    is_address: bool = False

    def reencrypt(self, stored: str, vault: Vault) -> str | None:
        """Return the value encrypted with the newest key, None where it is already; raise SecretsNotKept.

        An address of a time without a key is encrypted, too.
        """
        if not self.is_address:
            return _reencrypt(Encrypted(stored), vault)
        address = Address.read(stored)
        rest = address.rest
        token = _reencrypt(rest, vault) if isinstance(rest, Encrypted) else rest and vault.encrypt(rest).token
        return Address(address.server, Encrypted(token)).stored if token else None


# Servers copy a target's values to each message for it: the targets come first.
ENCRYPTED_COLUMNS = (
    EncryptedColumn(webhook_targets.c.url, is_address=True),
    EncryptedColumn(webhook_targets.c.secret),
    EncryptedColumn(webhook_deliveries.c.url, is_address=True),
    EncryptedColumn(webhook_deliveries.c.secret),
    EncryptedColumn(notification_channels.c.url),
)


class ReencryptedBatch(NamedTuple):
    """The result of one transaction: the last key, None at the end, and how many values changed or fit no key."""

    after: int | str | None
    changed: int = 0
    unreadable: int = 0


def reencrypt_batch(
    connection: Connection, encrypted: EncryptedColumn, after: int | str | None, vault: Vault
) -> ReencryptedBatch:
    """Encrypt values of the column again, those of rows after a key; leave alone what changes meanwhile."""
    column = encrypted.column
    key = column.table.c.id
    query = select(key, column).where(column.is_not(None)).order_by(key).limit(_BATCH)
    rows = connection.execute(query if after is None else query.where(key > after)).all()
    changed = unreadable = 0
    for row_key, stored in rows:
        try:
            value = encrypted.reencrypt(stored, vault)
        except SecretsNotKept:
            unreadable += 1
            continue
        if value is not None:
            written = update(column.table).where(key == row_key, column == stored).values({column: value})
            changed += connection.execute(written).rowcount
    return ReencryptedBatch(rows[-1][0] if rows else None, changed, unreadable)


def list_readers(connection: Connection, encrypted: EncryptedColumn) -> frozenset[str]:
    """Return the transactions of others that have read or written the column's table and have not ended.

    They may still write elsewhere what they have read. None on SQLite, which has one writer at a time.
    """
    if not is_shared(connection):
        return frozenset()
    return frozenset(connection.execute(_READERS, {"name": encrypted.column.table.name}).scalars())


def _reencrypt(value: Encrypted, vault: Vault) -> str | None:
    return None if vault.uses_newest_key(value) else vault.encrypt(vault.decrypt(value)).token
