"""``unpause keys``: makes the keys that the server encrypts other people's secrets with."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from unpause.vault import new_key

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(name: str, arguments: Sequence[str]) -> None:
    """Print a new key; it is kept nowhere."""
    parser = argparse.ArgumentParser(prog=f"unpause {name}", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    help_text = "print a new key for --encryption-key, or better for UNPAUSE_ENCRYPTION_KEY"
    actions.add_parser("new", help=help_text, description=help_text)
    parser.parse_args(arguments)
    sys.stdout.write(f"{new_key()}\n")
