"""``unpause runs purge`` and ``export``, and other purges: on the database itself, also while a server uses it."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from cyclopts import Parameter

from unpause.cli.databases import check_organization, command_line, open_database
from unpause.cli.options import DatabaseUrl, Duration, OrganizationFilter, database_url_or_default
from unpause.cli.people.times import moment_before, now
from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.retention import RetentionKind, RetentionScope
from unpause.durations import duration_text, moment_ago
from unpause.lazy import LazyModule
from unpause.services.retention import Purge
from unpause.store.audit import add_entries
from unpause.store.engine.database import Database
from unpause.store.engine.dialects import read_now
from unpause.store.export import read_runs
from unpause.store.retention import count_due, list_purgeable_chains

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import timedelta

    from unpause.cli import progress
    from unpause.store.engine.database import Connection
else:
    progress = LazyModule("unpause.cli.progress")

_PAGE: Final = 50


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class PurgeOptions:
    """Whose rows, and whether to delete them."""

    org: OrganizationFilter = None
    dry_run: Annotated[bool, Parameter(negative=(), help="Count them only.")] = False


def purge(
    *,
    older_than: Annotated[Duration, Parameter(help="How long ago they must have ended, such as 90d.")],
    options: PurgeOptions = PurgeOptions(),
    database_url: DatabaseUrl = None,
) -> None:
    """Delete runs that ended long ago, with all that belongs to them; never one that waits or runs.

    Runs of a session in which another one has not ended stay: it goes on with them.
    """
    _run(RetentionKind.ENDED_RUNS, "runs", "ended", older_than, options, database_url)


def purge_audit(
    *,
    older_than: Annotated[Duration, Parameter(help="How old they must be, such as 365d.")],
    options: PurgeOptions = PurgeOptions(),
    database_url: DatabaseUrl = None,
) -> None:
    """Delete old entries of the audit trail, from the oldest one on; `unpause audit verify` checks what is left."""
    _run(RetentionKind.AUDIT, "audit entries", "written", older_than, options, database_url)


def purge_deliveries(
    *,
    older_than: Annotated[Duration, Parameter(help="How old they must be, such as 7d.")],
    options: PurgeOptions = PurgeOptions(),
    database_url: DatabaseUrl = None,
) -> None:
    """Delete webhooks and notifications that were delivered or given up; never one that is still to be sent."""
    _run(RetentionKind.DELIVERIES, "deliveries", "created", older_than, options, database_url)


def _run(
    kind: RetentionKind, name: str, verb: str, older_than: timedelta, options: PurgeOptions, database_url: str | None
) -> None:
    with open_database(database_url) as (connection, at):
        check_organization(connection, options.org)
        due = Purge(kind, RetentionScope(options.org), moment_ago(at, older_than))
        total = count_due(connection, kind, due.scope, due.before)
    if options.dry_run:
        age = f"{verb} more than {duration_text(older_than)} ago"
        sys.stdout.write(f"{total} {name} {age} would be deleted\n")
        return
    with _progress(total, name) as advance:
        deleted = asyncio.run(_purge(database_url_or_default(database_url), due, advance))
    sys.stdout.write(f"{deleted} {name} deleted\n")


async def _purge(url: str, due: Purge, advance: Callable[[int], None]) -> int:
    """Delete batch by batch through the server's own connections: with them what belongs to a run goes with it."""
    deleted = 0
    async with Database(url).opened() as database:
        chains = await database.read(lambda connection: list_purgeable_chains(connection, due.scope, due.before))
        while batch := await database.write(lambda connection: _purge_batch(connection, due)):
            deleted += batch
            advance(batch)
        if due.kind is RetentionKind.AUDIT:
            await database.write(lambda connection: _note(connection, due, chains))
    return deleted


def _purge_batch(connection: Connection, due: Purge) -> int:
    return due.delete_some(connection, read_now(connection, datetime.now(UTC)), "cli")


def _note(connection: Connection, due: Purge, organizations: Sequence[int]) -> None:
    """Add an entry to the trail of each organization whose entries were deleted by hand."""
    now = read_now(connection, datetime.now(UTC))
    details = {"written_before": due.before.isoformat()}
    noted = [entry_by(command_line(each), AuditAction.AUDIT_PURGED, now, details=details) for each in organizations]
    add_entries(connection, noted)


def export(
    *,
    since: Annotated[str | None, Parameter(metavar="TIME", help="Created since then: 1d, or 2026-10-01.")] = None,
    org: OrganizationFilter = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write runs to standard output, a JSON object a line: each with its messages, calls, decisions and events."""
    begin = moment_before(since, now())
    last = 0
    while True:
        with open_database(database_url) as (connection, _):
            check_organization(connection, org)
            page = read_runs(connection, last, _PAGE, datetime.fromisoformat(begin) if begin else None, org)
        for run in page:
            sys.stdout.write(json.dumps(run, default=_text, ensure_ascii=False) + "\n")
        if len(page) < _PAGE:
            return
        last = page[-1]["id"]


@contextmanager
def _progress(total: int, name: str) -> Iterator[Callable[[int], None]]:
    """Show how many are done, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    # It takes a tenth of a second to load.
    with progress.progress_bar(total, name) as advance:
        yield advance


def _text(value: Any) -> str:  # noqa: ANN401 - what JSON does not know
    return value.isoformat() if isinstance(value, datetime) else str(value)
