"""``unpause keys``: creates keys that the server encrypts other people's secrets with."""

from __future__ import annotations

import sys

from cyclopts import App

from unpause.vault import new_key

app = App(name="keys")


@app.command
def new() -> None:
    """Print a new key for --encryption-key, or better for UNPAUSE_ENCRYPTION_KEY; it is stored nowhere."""
    sys.stdout.write(f"{new_key()}\n")
