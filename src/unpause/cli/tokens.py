"""``unpause tokens``: creates, lists and revokes tokens. A running server notices within seconds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unpause.auth.tokens import NewToken, create_token, replace_token, revoke_token
from unpause.cli.databases import check_organization, command_line, open_database
from unpause.cli.exits import tell
from unpause.cli.options import DatabaseUrl, Duration, Organization
from unpause.domain.principal import DEFAULT_ORGANIZATION
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.errors import InvalidSetting
from unpause.store.tokens import list_tokens

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.domain.tokens import Token

_Id = Annotated[str, Parameter(help="Id of the token, as `list` shows it.")]

app = App(name="tokens")


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
    org: Organization = DEFAULT_ORGANIZATION

    def new_token(self) -> NewToken:
        """Return the options as the domain's object."""
        scopes = (ADMIN,) if self.admin else tuple(name.strip() for name in self.scopes.split(",") if name.strip())
        if not scopes:
            raise InvalidSetting("--scopes is empty: the token would permit nothing")
        return NewToken(
            organization_id=self.org, user_id=self.user, name=self.name, scopes=scopes, lifetime=self.expires
        )


@app.command(name="create")
def create(*, options: TokenOptions = TokenOptions(), database_url: DatabaseUrl = None) -> None:
    """Create a token and print it, once."""
    with open_database(database_url) as (connection, now):
        token, text = create_token(connection, options.new_token(), command_line(options.org), now)
    _print_token(token, text)


@app.command(name="list")
def show_tokens(*, org: Organization = DEFAULT_ORGANIZATION, database_url: DatabaseUrl = None) -> None:
    """List the tokens of an organization, without their secrets."""
    with open_database(database_url) as (connection, now):
        check_organization(connection, org)
        lines = [_line(token, now) for token in list_tokens(connection, org)]
    _print(*lines or ["There are no tokens"])


@app.command(name="revoke")
def revoke(token_id: _Id, /, *, database_url: DatabaseUrl = None) -> None:
    """Revoke a token."""
    with open_database(database_url) as (connection, now):
        token = revoke_token(connection, token_id, command_line(), now)
    _print(f"Token {token.id} is revoked; running servers refuse it within 2 seconds")


@app.command(name="rotate")
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


def _print(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _print_token(token: Token, text: str) -> None:
    """Print the token's text alone, for scripts; everything else goes to standard error."""
    expires = f", until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else ""
    user = f"user {token.user_id}" if token.user_id else "the user that each request names"
    tell(f"Token {token.id} for {user}, of organization {token.organization_id}{expires}. It is shown only now:\n")
    _print(text)


def _line(token: Token, now: datetime) -> str:
    state = "revoked" if token.revoked_at else "expired" if token.is_expired(now) else "valid"
    used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
    return "\t".join([token.id, state, token.user_id or "-", token.name or "-", used, ",".join(token.scopes)])
