"""``unpause tokens`` and ``unpause organizations``: who has access. A running server notices within seconds."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unpause.auth.tokens import NewToken, check_name, create_token, replace_token, revoke_token
from unpause.cli.databases import existing_database
from unpause.cli.options import DatabaseUrl, Duration
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.errors import InvalidSetting, Startup, UnpauseError
from unpause.store.engine.dialects import read_now
from unpause.store.engine.schema import check_schema, plain_connection
from unpause.store.tokens import list_tokens
from unpause.store.users import add_organization, list_organizations

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Connection

_Id = Annotated[str, Parameter(help="Id of the token, as `list` shows it.")]
_Organization = Annotated[int, Parameter(metavar="NUMBER", help="Id of the organization.")]

tokens = App(name="tokens")
organizations = App(name="organizations")


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class TokenOptions:
    """The options of a new token."""

    user: Annotated[
        str | None, Parameter(metavar="NAME", help="User of the token; by default each request names one.")
    ] = None
    name: Annotated[str | None, Parameter(metavar="NAME", help="Name to recognize it by.")] = None
    scopes: Annotated[str, Parameter(metavar="LIST", help="What it permits, comma-separated.")] = ",".join(
        DEFAULT_SCOPES
    )
    admin: Annotated[bool, Parameter(negative=(), help=f"Permit everything: {ADMIN}.")] = False
    expires: Annotated[Duration | None, Parameter(help="Lifetime, such as 90d; by default until revoked.")] = None
    org: _Organization = DEFAULT_ORGANIZATION

    def new_token(self) -> NewToken:
        """Return the options as the domain's object."""
        scopes = (ADMIN,) if self.admin else tuple(name.strip() for name in self.scopes.split(",") if name.strip())
        return NewToken(
            organization_id=self.org, user_id=self.user, name=self.name, scopes=scopes, lifetime=self.expires
        )


@tokens.command(name="create")
def create(*, options: TokenOptions = TokenOptions(), database_url: DatabaseUrl = None) -> None:
    """Create a token and print it, once."""
    with open_database(database_url) as (connection, now):
        token, text = create_token(connection, options.new_token(), command_line(options.org), now)
    _print_token(token, text)


@tokens.command(name="list")
def show_tokens(*, org: _Organization = DEFAULT_ORGANIZATION, database_url: DatabaseUrl = None) -> None:
    """List the tokens of an organization, without their secrets."""
    with open_database(database_url) as (connection, now):
        lines = [_line(token, now) for token in list_tokens(connection, org)]
    _print(*lines or ["There are no tokens"])


@tokens.command(name="revoke")
def revoke(token_id: _Id, /, *, database_url: DatabaseUrl = None) -> None:
    """Revoke a token."""
    with open_database(database_url) as (connection, now):
        token = revoke_token(connection, token_id, command_line(), now)
    _print(f"Token {token.id} is revoked; running servers refuse it within 2 seconds")


@tokens.command(name="rotate")
def rotate_token(
    token_id: _Id,
    /,
    *,
    keep_old: Annotated[Duration, Parameter(help="How long the old token stays valid, such as 24h.")] = timedelta(),
    database_url: DatabaseUrl = None,
) -> None:
    """Create a token like another one, and revoke that."""
    with open_database(database_url) as (connection, now):
        token, text = replace_token(connection, token_id, command_line(), now, keep_old)
    _print_token(token, text)


@organizations.command(name="create")
def create_organization(
    name: Annotated[str, Parameter(help="Name of the organization.")], /, *, database_url: DatabaseUrl = None
) -> None:
    """Create an organization and print its id."""
    with open_database(database_url) as (connection, now):
        check_name(name)
        number = add_organization(connection, name, now)
    _print(f"Organization {number} is created")


@organizations.command(name="list")
def show_organizations(*, database_url: DatabaseUrl = None) -> None:
    """List the organizations."""
    with open_database(database_url) as (connection, _):
        lines = [f"{one.id}\t{one.name}" for one in list_organizations(connection)]
    _print(*lines)


@contextmanager
def open_database(database_url: str | None) -> Iterator[tuple[Connection, datetime]]:
    """Open a transaction, and read the clock that servers compare with; raise InvalidSetting for any refusal."""
    url = existing_database(database_url)
    try:
        with plain_connection(url) as connection, connection.begin():
            check_schema(connection)
            yield connection, read_now(connection, datetime.now(UTC))
    except Startup:
        raise
    except UnpauseError as error:
        raise InvalidSetting(error.message) from None


def command_line(organization: int = DEFAULT_ORGANIZATION) -> Principal:
    """Return the operator, as the audit trail names them."""
    return Principal(organization, "command line", via="cli")


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _print_token(token: Token, text: str) -> None:
    """Print the token's text alone, for scripts; everything else goes to standard error."""
    expires = f", until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else ""
    user = f"user {token.user_id}" if token.user_id else "the user that each request names"
    sys.stderr.write(
        f"Token {token.id} for {user}, of organization {token.organization_id}{expires}. It is shown only now:\n"
    )
    _print(text)


def _line(token: Token, now: datetime) -> str:
    state = "revoked" if token.revoked_at else "expired" if token.is_expired(now) else "valid"
    used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
    return "\t".join([token.id, state, token.user_id or "-", token.name or "-", used, ",".join(token.scopes)])
