"""Encrypts the secrets of a database again, a few in a transaction, beside running servers."""

from __future__ import annotations

from typing import NamedTuple

from unpause.cli.databases import existing_database
from unpause.cli.options import read_settings
from unpause.errors import InvalidSetting
from unpause.factories import load_vault
from unpause.store.engine.schema import check_schema, plain_connection
from unpause.store.sealed import SEALED_COLUMNS, seal_some_again


class Rotated(NamedTuple):
    """How many secrets were encrypted again, and how many no key fits."""

    changed: int
    unreadable: int


def rotate_secrets(database_url: str | None) -> Rotated:
    """Encrypt all secrets with the first key of the settings; raise InvalidSetting for any refusal."""
    url = existing_database(database_url)
    vault = load_vault(read_settings())
    if not vault.keeps_secrets:
        raise InvalidSetting("encryption_key: there is none; set UNPAUSE_ENCRYPTION_KEY to the new key and the old one")
    changed = unreadable = 0
    with plain_connection(url) as connection:
        with connection.begin():
            check_schema(connection)
        for place in SEALED_COLUMNS:
            after, more = None, True
            while more:
                with connection.begin():
                    found = seal_some_again(connection, place, after, vault)
                after, more = found.after, found.after is not None
                changed, unreadable = changed + found.changed, unreadable + found.unreadable
    return Rotated(changed, unreadable)
