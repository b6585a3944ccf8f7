"""``unpause audit verify`` and ``export``: on the database itself, also while a server uses it."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime

# Not for type checkers alone: options are read by their types.
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter

from unpause.cli.databases import check_organization, existing_database
from unpause.cli.exits import CommandFailed, Exit
from unpause.cli.options import DatabaseUrl, OrganizationFilter
from unpause.cli.people.times import moment_before, now
from unpause.cli.row_writers import write_csv, write_json_lines
from unpause.domain.audit import AuditEntry, AuditFilter
from unpause.domain.audit_chain import ChainCheck
from unpause.domain.storable import refuse_unstorable
from unpause.errors import InvalidInput, InvalidSetting
from unpause.store.audit import UnreadableEntry, stream_entries
from unpause.store.audit_chain import begin_snapshot, list_chains, stream_sealed
from unpause.store.engine.schema import check_schema, plain_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.store.engine.database import Connection

_COLUMNS: Final = (
    *("id", "number", "organization_id", "at", "action", "actor", "via", "token_id", "address"),
    *("run_id", "subject", "decision", "note", "details", "hash"),
)
_OF_ENTRY: Final = tuple(field.name for field in fields(AuditEntry))
_HASH: Final = re.compile(r"(?:[0-9]+:)?([0-9a-f]{64})")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class EntryOptions:
    """Which entries."""

    actor: Annotated[str | None, Parameter(metavar="NAME", help="Only those of this actor.")] = None
    since: Annotated[str | None, Parameter(metavar="TIME", help="Since then: 1d, or 2026-10-01.")] = None
    until: Annotated[str | None, Parameter(metavar="TIME", help="Before then: 1d, or 2026-11-01.")] = None
    org: OrganizationFilter = None

    def filter(self) -> AuditFilter:
        """Return the filter; raise CommandFailed for what is no time, or no span of time."""
        if self.actor is not None:
            try:
                refuse_unstorable(self.actor)
            except InvalidInput as error:
                raise CommandFailed(f"--actor: {error.message}", Exit.USAGE) from None
        since, until = moment_before(self.since, now()), moment_before(self.until, now())
        begin, end = (datetime.fromisoformat(text) if text else None for text in (since, until))
        if begin is not None and end is not None and begin >= end:
            raise CommandFailed(f"--since {self.since} is not before --until {self.until}", Exit.USAGE)
        return AuditFilter(actor=self.actor, since=begin, until=end)


def verify(
    *,
    expect: Annotated[
        str | None, Parameter(metavar="HASH", help="Hash that the trail must have, as an earlier check printed it.")
    ] = None,
    org: OrganizationFilter = None,
    as_json: Annotated[bool, Parameter(name="--json", negative=(), show_default=False, help="Print JSON.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Check that no entry of the audit trail was changed, removed, inserted or moved since it was sealed.

    Print the newest hash of each organization: note it elsewhere, and expect it later. Exit with 1 where something is
    wrong.
    """
    expected = None if expect is None else _read_hash(expect)
    with _snapshot(database_url) as connection:
        check_organization(connection, org)
        checks = list(_checked(connection, org, expected))
    if expected is not None:
        _expect_once(checks)
    is_whole = all(check.is_whole for check in checks)
    if as_json:
        report = {"whole": is_whole, "organizations": [check.report() for check in checks]}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for check in checks for line in check.lines())
    if not is_whole:
        sys.exit(1)


def export(
    *,
    chosen: EntryOptions = EntryOptions(),
    form: Annotated[Literal["csv", "jsonl"], Parameter(name="--format", help="Form of the entries.")] = "jsonl",
    output: Annotated[Path | None, Parameter(help="New file to write to; by default standard output.")] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write the audit trail, oldest first, each entry with its number and hash in the chain.

    In CSV a cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    entries = chosen.filter()
    with _snapshot(database_url) as connection, _opened(output) as file:
        check_organization(connection, chosen.org)
        rows = map(_row, stream_entries(connection, chosen.org, entries))
        if form == "csv":
            write_csv(file, rows, _COLUMNS)
        else:
            write_json_lines(file, rows)


def _row(found: tuple[AuditEntry, int | None, str | None] | UnreadableEntry) -> dict[str, Any]:
    if isinstance(found, UnreadableEntry):
        raise InvalidSetting(f"The entry with id {found.id} was changed and cannot be read: see `unpause audit verify`")
    entry, number, sealed = found
    columns = {name: getattr(entry, name) for name in _OF_ENTRY}
    return {**columns, "at": entry.at.isoformat(), "number": number, "hash": sealed}


def _checked(connection: Connection, org: int | None, expected: str | None) -> Iterator[ChainCheck]:
    for organization_id, head, unsealed in list_chains(connection, org):
        check = ChainCheck(organization_id, head, expected, unsealed)
        for found in stream_sealed(connection, organization_id):
            if isinstance(found, UnreadableEntry):
                check.add_unreadable(found.id)
            else:
                check.add(*found)
        check.finish()
        yield check


def _expect_once(checks: list[ChainCheck]) -> None:
    """Of several organizations one has the hash."""
    if any(check.has_expected for check in checks):
        for check in checks:
            check.findings = [one for one in check.findings if one.kind != "expected"]


def _read_hash(text: str) -> str:
    found = _HASH.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidSetting(f"--expect: {text!r} is not a hash as `unpause audit verify` prints it")
    return found[1]


@contextmanager
def _snapshot(database_url: str | None) -> Iterator[Connection]:
    """Open a transaction that sees one state of the database, whatever servers do meanwhile."""
    with plain_connection(existing_database(database_url)) as connection, connection.begin():
        begin_snapshot(connection)
        check_schema(connection)
        yield connection


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[str]]:
    """Open a new file, for this user alone, or standard output; a file that is not whole in the end is removed."""
    if output is None:
        yield sys.stdout
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        reason = "it exists already" if isinstance(error, FileExistsError) else error.strerror
        raise InvalidSetting(f"--output: {output} cannot be made: {reason}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
    except BaseException:
        output.unlink(missing_ok=True)
        raise
