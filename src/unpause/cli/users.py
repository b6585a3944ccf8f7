"""``unpause users``: erases a user, on the database itself, also while servers use it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unpause.cli.databases import check_organization, command_line, open_database
from unpause.cli.exits import CommandFailed, Exit, reason_of
from unpause.cli.options import DatabaseUrl, Organization, database_url_or_default
from unpause.clock import SystemClock
from unpause.domain.principal import DEFAULT_ORGANIZATION
from unpause.domain.storable import refuse_unstorable
from unpause.errors import InvalidInput, InvalidSetting, UnpauseError
from unpause.services.erasure import Erasure
from unpause.store.engine.database import Database

if TYPE_CHECKING:
    from unpause.services.erasure import Found

app = App(name="users")


@app.command
def erase(
    name: Annotated[str, Parameter(help="Name of the user.")],
    /,
    *,
    org: Organization = DEFAULT_ORGANIZATION,
    cancel: Annotated[bool, Parameter(negative=(), help="Cancel runs of the user that have not ended.")] = False,
    dry_run: Annotated[bool, Parameter(negative=(), help="Say what would be erased only.")] = False,
    yes: Annotated[bool, Parameter(negative=(), help="Do not ask.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Erase a user: the texts of their runs go, and a pseudonym stands where their name was.

    Their tokens are revoked, their channels removed. The audit trail stays, under the pseudonym, and can still be
    checked. It cannot be undone. An erasure that was interrupted goes on when the command is run again.
    """
    with open_database(database_url) as (connection, _):
        check_organization(connection, org)
    url = database_url_or_default(database_url)
    try:
        _check(name)
        found = asyncio.run(_look(url, name, org))
        if found.is_nothing:
            sys.stdout.write(f"Nothing is known of {name!r} in organization {org}\n")
            return
        _show(found, name, org)
        if dry_run:
            return
        if not yes:
            _ask(name)
        pseudonym = asyncio.run(_erase(url, name, org, cancels=cancel))
    except UnpauseError as error:
        raise InvalidSetting(reason_of(error)) from None
    sys.stdout.write(f"Erased; the trail knows the user as {pseudonym}\n")


def _check(name: str) -> None:
    refuse_unstorable(name)
    if not name:
        raise InvalidInput("A user has a name")


def _show(found: Found, name: str, org: int) -> None:
    counted = ", ".join(f"{count} {what}" for what, count in found.counts.items())
    sys.stdout.write(f"{name!r} in organization {org}: {counted or 'the rest of an erasure that was interrupted'}\n")
    if found.unfinished:
        sys.stdout.write(f"{len(found.unfinished)} runs have not ended; --cancel cancels them\n")


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed("This cannot be undone: add --yes", Exit.USAGE)
    sys.stdout.write("This cannot be undone. Type the name to go on: ")
    sys.stdout.flush()
    if sys.stdin.readline().rstrip("\n") != name:
        raise CommandFailed("Nothing was erased", Exit.USAGE)


async def _look(url: str, name: str, org: int) -> Found:
    async with Database(url).opened() as database:
        return await Erasure(database, SystemClock(), command_line(org)).look(name)


async def _erase(url: str, name: str, org: int, *, cancels: bool) -> str:
    async with Database(url).opened() as database:
        return await Erasure(database, SystemClock(), command_line(org)).erase(name, cancels=cancels)
