"""Encrypts the secrets of a database again, a few in a transaction, beside running servers."""

from __future__ import annotations

from itertools import groupby
from time import monotonic, sleep
from typing import TYPE_CHECKING, NamedTuple

from unpause.cli.databases import existing_database
from unpause.errors import InvalidSetting
from unpause.factories import load_vault
from unpause.settings_sources import read_settings
from unpause.store.encrypted_columns import ENCRYPTED_COLUMNS, EncryptedColumn, list_readers, reencrypt_batch
from unpause.store.engine.schema import check_schema, plain_connection

if TYPE_CHECKING:
    from unpause.store.engine.database import Connection
    from unpause.vault import Vault

# Transactions of servers take milliseconds; PostgreSQL ends one that was left open.
_MAX_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.05


class Rotated(NamedTuple):
    """How many secrets were encrypted again, how many no key fits, and whether old ones may still be written."""

    changed: int
    unreadable: int
    is_open: bool = False


def rotate_secrets(database_url: str | None) -> Rotated:
    """Encrypt all secrets with the first key of the settings; raise InvalidSetting for any refusal."""
    url = existing_database(database_url)
    vault = load_vault(read_settings())
    if not vault.keeps_secrets:
        raise InvalidSetting("encryption_key: there is none; set UNPAUSE_ENCRYPTION_KEY to the new key and the old one")
    changed = unreadable = 0
    is_open = False
    with plain_connection(url) as connection:
        with connection.begin():
            check_schema(connection)
        for _, columns in groupby(ENCRYPTED_COLUMNS, lambda encrypted: encrypted.column.table):
            for column in columns:
                done = _reencrypt(connection, column, vault)
                changed, unreadable = changed + done.changed, unreadable + done.unreadable
            # What reads the table from here on finds no old values, and copies none to another table.
            is_open |= not _wait_for_readers(connection, column)
    return Rotated(changed, unreadable, is_open)


def _reencrypt(connection: Connection, column: EncryptedColumn, vault: Vault) -> Rotated:
    changed = unreadable = 0
    after, more = None, True
    while more:
        with connection.begin():
            found = reencrypt_batch(connection, column, after, vault)
        after, more = found.after, found.after is not None
        changed, unreadable = changed + found.changed, unreadable + found.unreadable
    return Rotated(changed, unreadable)


def _wait_for_readers(connection: Connection, column: EncryptedColumn) -> bool:
    """Wait until the transactions that may have read old values have ended; return whether they have."""
    end, left = monotonic() + _MAX_WAIT_SECONDS, None
    while left is None or left:
        with connection.begin():
            found = list_readers(connection, column)
        left = found if left is None else left & found
        if left:
            if monotonic() > end:
                return False
            sleep(_POLL_SECONDS)
    return True
