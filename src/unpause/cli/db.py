"""``unpause db``: brings the database's schema up or down, and says where it is."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from unpause.settings import Settings
from unpause.store.engine import migrate
from unpause.store.engine.ownership import own_database

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(name: str, arguments: Sequence[str]) -> None:
    """Do what the subcommand says; raise a ``Startup`` error where it cannot be done."""
    options = _parser(name).parse_args(arguments)
    database_url: str = options.database_url or Settings().database_url
    lock = None if options.unlocked else own_database(database_url)
    try:
        _act(options, database_url)
    finally:
        if lock is not None:
            lock.release()


def _act(options: argparse.Namespace, database_url: str) -> None:
    match options.action:
        case "upgrade":
            migrate.upgrade(database_url, options.revision)
        case "downgrade":
            migrate.downgrade(database_url, options.revision)
        case "check":
            migrate.check(database_url)
    found = migrate.current(database_url) or "nothing"
    newest = migrate.head()
    state = "as the code needs it" if found == newest else f"the newest is {newest}"
    sys.stdout.write(f"The database schema is at {found}: {state}\n")


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"unpause {name}", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action, help_text in (
        ("upgrade", "bring the schema up, by default to the newest revision"),
        ("downgrade", "bring the schema down to a revision; `base` removes everything, the data too"),
        ("current", "say at which revision the schema is"),
        ("check", "compare the database with the tables of the code"),
    ):
        command = actions.add_parser(action, help=help_text, description=help_text)
        if action == "upgrade":
            command.add_argument("revision", nargs="?", default="head")
        if action == "downgrade":
            command.add_argument("revision")
        command.add_argument("--database-url", help="default: UNPAUSE_DATABASE_URL, or unpause.db in this folder")
        # The server creates a new file's schema while it already owns the file.
        command.add_argument("--unlocked", action="store_true", help=argparse.SUPPRESS)
    return parser
