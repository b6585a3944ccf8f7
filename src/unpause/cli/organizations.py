"""``unpause organizations``: creates and lists them, and sets how long to keep their data."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Annotated, Final

from cyclopts import App, Parameter

from unpause.auth.tokens import check_name
from unpause.cli.databases import check_organization, command_line, open_database
from unpause.cli.options import DatabaseUrl, Organization
from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.retention import RetentionKind
from unpause.durations import duration_text, parse_duration
from unpause.errors import InvalidSetting
from unpause.store.audit import add_entries
from unpause.store.organization_retention import get_own_rules, set_own_rules
from unpause.store.users import add_organization, list_organizations

_OwnRule = Annotated[str | None, Parameter(metavar="DURATION|forever|default")]
_FOREVER: Final = "forever"
_DEFAULT: Final = "default"

app = App(name="organizations")


@app.command(name="create")
def create_organization(
    name: Annotated[str, Parameter(help="Name of the organization.")], /, *, database_url: DatabaseUrl = None
) -> None:
    """Create an organization and print its id."""
    with open_database(database_url) as (connection, now):
        check_name(name)
        number = add_organization(connection, name, now)
    sys.stdout.write(f"Organization {number} is created\n")


@app.command(name="list")
def show_organizations(*, database_url: DatabaseUrl = None) -> None:
    """List the organizations."""
    with open_database(database_url) as (connection, _):
        lines = [f"{one.id}\t{one.name}\n" for one in list_organizations(connection)]
    sys.stdout.write("".join(lines))


@app.command(name="retention")
def set_retention(
    number: Organization,
    /,
    *,
    keep_ended_runs: _OwnRule = None,
    keep_audit: _OwnRule = None,
    keep_deliveries: _OwnRule = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Set how long to keep the data of one organization, and show it.

    A value is a duration such as 30d, `forever`, or `default`: as the server's settings say.
    """
    options = {
        RetentionKind.ENDED_RUNS: keep_ended_runs,
        RetentionKind.AUDIT: keep_audit,
        RetentionKind.DELIVERIES: keep_deliveries,
    }
    changes = {kind: _own_rule(kind, text) for kind, text in options.items() if text is not None}
    with open_database(database_url) as (connection, now):
        check_organization(connection, number)
        if changes:
            set_own_rules(connection, number, changes)
            details = {kind.value: _rule_text(length) for kind, length in changes.items()}
            add_entries(
                connection, [entry_by(command_line(number), AuditAction.RETENTION_CHANGED, now, details=details)]
            )
        rules = get_own_rules(connection, number)
    lines = [f"{kind.value.replace('_', '-')}\t{_rule_text(length)}\n" for kind, length in rules.items()]
    sys.stdout.write("".join(lines))


def _own_rule(kind: RetentionKind, text: str) -> timedelta | None:
    """Return the rule of the text: none of its own, zero forever, or a duration; raise InvalidSetting."""
    if text == _DEFAULT:
        return None
    if text == _FOREVER:
        return timedelta()
    try:
        return parse_duration(text)
    except ValueError:
        option = kind.value.replace("_", "-")
        raise InvalidSetting(
            f"--{option}: {text!r} is no duration such as 30d, and neither {_FOREVER} nor {_DEFAULT}"
        ) from None


def _rule_text(length: timedelta | None) -> str:
    if length is None:
        return _DEFAULT
    return duration_text(length) if length else _FOREVER
