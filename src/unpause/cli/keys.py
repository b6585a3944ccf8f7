"""``unpause keys``: creates keys that the server encrypts other people's secrets with, and changes them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cyclopts import App

from unpause.cli.exits import tell
from unpause.cli.options import DatabaseUrl
from unpause.lazy import LazyModule
from unpause.vault import new_key

if TYPE_CHECKING:
    from unpause.cli import key_rotation
else:
    # `keys new` needs no database.
    key_rotation = LazyModule("unpause.cli.key_rotation")

app = App(name="keys")


@app.command
def new() -> None:
    """Print a new key for --encryption-key, or better for UNPAUSE_ENCRYPTION_KEY; it is stored nowhere."""
    sys.stdout.write(f"{new_key()}\n")


@app.command
def rotate(*, database_url: DatabaseUrl = None) -> None:
    """Encrypt all secrets in the database again with the first key of UNPAUSE_ENCRYPTION_KEY=NEW,OLD.

    Servers go on meanwhile, if they have both keys. Exit with 1 where there are secrets that no key fits, or
    transactions that do not end. It can be interrupted, and run again.
    """
    rotated = key_rotation.rotate_secrets(database_url)
    sys.stdout.write(f"{rotated.changed} secrets are encrypted with the first key now\n")
    if rotated.unreadable:
        tell(f"unpause: {rotated.unreadable} secrets cannot be decrypted with these keys\n")
        sys.exit(1)
    if rotated.is_open:
        tell("unpause: a transaction has been open for a minute, which may use the old key: run it again\n")
        sys.exit(1)
    sys.stdout.write("No secret needs another key any more\n")
