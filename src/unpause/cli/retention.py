"""``unpause runs purge`` and ``export``: on the database itself, also while a server uses it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from unpause.cli.options import DatabaseUrl, Duration, database_url_or_default
from unpause.cli.people.times import moment_before, now
from unpause.cli.tokens import open_database
from unpause.services.retention import purge_batch
from unpause.store.engine.database import Database
from unpause.store.engine.dialects import read_now
from unpause.store.export import read_runs
from unpause.store.retention import count_ended_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from unpause.store.engine.database import Connection

_PAGE: Final = 50

_Organization = Annotated[
    int | None, Parameter(metavar="NUMBER", help="Id of the organization; by default all of them.")
]


def purge(
    *,
    older_than: Annotated[Duration, Parameter(help="How long ago they must have ended, such as 90d.")],
    org: _Organization = None,
    dry_run: Annotated[bool, Parameter(negative=(), help="Count them only.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Delete runs that ended long ago, with all that belongs to them; never one that waits or runs.

    Runs of a session in which another one has not ended stay: it goes on with them.
    """
    with open_database(database_url) as (connection, at):
        total = count_ended_runs(connection, at - older_than, org)
    if dry_run:
        sys.stdout.write(f"{total} runs ended more than {older_than.days} days ago would be deleted\n")
        return
    with _progress(total) as advance:
        deleted = asyncio.run(_purge(database_url_or_default(database_url), older_than, org, advance))
    sys.stdout.write(f"{deleted} runs deleted\n")


async def _purge(url: str, older_than: timedelta, org: int | None, advance: Callable[[int], None]) -> int:
    """Delete batch by batch through the server's own connections: with them what belongs to a run goes with it."""
    deleted = 0
    async with Database(url).opened() as database:
        while True:
            batch = await database.write(lambda connection: _purge_batch(connection, older_than, org))
            if batch == 0:
                return deleted
            deleted += batch
            advance(batch)


def _purge_batch(connection: Connection, older_than: timedelta, org: int | None) -> int:
    at = read_now(connection, datetime.now(UTC))
    return purge_batch(connection, at - older_than, at, org, via="cli")


def export(
    *,
    since: Annotated[str | None, Parameter(metavar="TIME", help="Created since then: 1d, or 2026-10-01.")] = None,
    org: _Organization = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write runs to standard output, a JSON object a line: each with its messages, calls, decisions and events."""
    begin = moment_before(since, now())
    last = 0
    while True:
        with open_database(database_url) as (connection, _):
            page = read_runs(connection, last, _PAGE, datetime.fromisoformat(begin) if begin else None, org)
        for run in page:
            sys.stdout.write(json.dumps(run, default=_text, ensure_ascii=False) + "\n")
        if len(page) < _PAGE:
            return
        last = page[-1]["id"]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Show how many of the runs are done, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    # It takes a tenth of a second to load.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("runs", total=total)
        yield lambda count: bar.advance(task, count)


def _text(value: Any) -> str:  # noqa: ANN401 - what JSON does not know
    return value.isoformat() if isinstance(value, datetime) else str(value)
