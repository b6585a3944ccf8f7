"""``unpause db``: moves the database's schema up or down, shows its revision, copies and restores the database."""

from __future__ import annotations

import sys
from contextlib import contextmanager

# Not for type checkers alone: options are read by their types.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unpause.cli.databases import existing_database
from unpause.cli.exits import tell
from unpause.cli.options import DatabaseUrl, database_url_or_default
from unpause.store.engine import migrate
from unpause.store.engine.backup import back_up, find_restored
from unpause.store.engine.backup import restore as restore_backup
from unpause.store.engine.ownership import check_leftovers, own_database

if TYPE_CHECKING:
    from collections.abc import Iterator

# The server creates the schema of a new file while it owns the file.
_Unlocked = Annotated[bool, Parameter(show=False, negative=())]
_Force = Annotated[
    bool, Parameter(negative=(), help="Also while connected servers and workers do not work with that schema.")
]
_Replace = Annotated[bool, Parameter(negative=(), help="Move an existing database aside.")]

app = App(name="db")


@app.command
def upgrade(
    revision: str = "head", /, *, database_url: DatabaseUrl = None, force: _Force = False, unlocked: _Unlocked = False
) -> None:
    """Upgrade the schema, by default to the newest revision."""
    with _database(database_url_or_default(database_url), unlocked=unlocked) as url:
        check_leftovers(url)
        migrate.upgrade(url, revision, force=force, report=_report)


@app.command
def downgrade(
    revision: str, /, *, database_url: DatabaseUrl = None, force: _Force = False, unlocked: _Unlocked = False
) -> None:
    """Downgrade the schema to a revision; `base` removes everything, including the data."""
    with _database(existing_database(database_url), unlocked=unlocked) as url:
        migrate.downgrade(url, revision, force=force, report=_report)


@app.command
def current(*, database_url: DatabaseUrl = None, unlocked: _Unlocked = False) -> None:
    """Show the revision of the schema."""
    with _database(existing_database(database_url), unlocked=unlocked):
        pass


@app.command
def backup(file: Path, /, *, database_url: DatabaseUrl = None) -> None:
    """Copy the SQLite database into a new file, whole, also while a server runs."""
    size = back_up(database_url_or_default(database_url), file)
    sys.stdout.write(f"Backed up {size} bytes to {file}\n")


@app.command
def restore(file: Path, /, *, database_url: DatabaseUrl = None, replace: _Replace = False) -> None:
    """Put a backup in the place of the SQLite database, while no server runs."""
    url = database_url_or_default(database_url)
    # Before the lock, which is a file: what is refused leaves nothing behind.
    find_restored(file, url, replace=replace)
    lock = own_database(url)
    try:
        kept, state = restore_backup(file, url, replace=replace)
    finally:
        if lock is not None:
            lock.release()
    old = f"; the old database is {kept}" if kept else ""
    sys.stdout.write(f"Restored {file}{old}\n")
    if not state.is_current:
        hint = "; run `unpause db upgrade`" if state.is_behind else ""
        sys.stdout.write(f"{state.describe()}{hint}\n")


@app.command
def check(*, database_url: DatabaseUrl = None, unlocked: _Unlocked = False) -> None:
    """Compare the database with the tables of the code."""
    with _database(existing_database(database_url), unlocked=unlocked) as url:
        migrate.check(url)


def _report(what: str) -> None:
    tell(f"unpause: {what}\n")


@contextmanager
def _database(url: str, *, unlocked: bool) -> Iterator[str]:
    """Own the database during the block, and show its revision at the end."""
    lock = None if unlocked else own_database(url)
    try:
        yield url
        sys.stdout.write(f"{migrate.current(url).describe()}\n")
    finally:
        if lock is not None:
            lock.release()
