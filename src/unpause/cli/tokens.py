"""``unpause tokens`` and ``unpause organizations``: who may come in. A running server hears of it within seconds."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

from unpause.auth.tokens import NewToken, check_name, end_token, make_token, replace_token
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.scopes import ADMIN, USUAL
from unpause.errors import InvalidSetting, UnpauseError
from unpause.settings import Settings
from unpause.store.engine.database import database_file
from unpause.store.engine.dialects import read_now
from unpause.store.engine.schema import check_schema, plain_connection
from unpause.store.tokens import list_tokens
from unpause.store.users import add_organization, list_organizations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Connection

    _Actions: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no other name

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]{1,6})([smhd])")
_ACTOR = "command line"


def run(name: str, arguments: Sequence[str]) -> None:
    """Do what the subcommand says; raise InvalidSetting where it cannot be done."""
    options = (_tokens_parser if name == "tokens" else _organizations_parser)(name).parse_args(arguments)
    database_url: str = options.database_url or Settings().database_url
    file = database_file(database_url)
    if file is not None and not file.exists():
        # To look into it would make it, empty, and a server takes that for a database of its own.
        raise InvalidSetting(f"There is no database {file}: start a server, or run `unpause db upgrade`")
    try:
        with plain_connection(database_url) as connection, connection.begin():
            check_schema(connection)
            lines = _act(f"{name} {options.action}", options, connection)
    except InvalidSetting:
        raise
    except UnpauseError as error:
        raise InvalidSetting(error.message) from None
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _act(action: str, options: argparse.Namespace, connection: Connection) -> list[str]:
    # By the clock that servers compare with.
    now = read_now(connection, datetime.now(UTC))
    organization: int = getattr(options, "org", DEFAULT_ORGANIZATION)
    by = Principal(organization, _ACTOR, via="cli")
    match action:
        case "tokens create":
            return _shown(*make_token(connection, _wanted(options), by, now))
        case "tokens rotate":
            return _shown(*replace_token(connection, options.id, by, now, options.keep_old))
        case "tokens revoke":
            token = end_token(connection, options.id, by, now)
            return [f"Token {token.id} counts no more; running servers refuse it within 2 seconds"]
        case "tokens list":
            return [_line(token, now) for token in list_tokens(connection, organization)] or ["There are no tokens"]
        case "organizations create":
            check_name(options.name)
            return [f"Organization {add_organization(connection, options.name, now)} is made"]
        case _:
            return [f"{one.id}\t{one.name}" for one in list_organizations(connection)]


def _wanted(options: argparse.Namespace) -> NewToken:
    return NewToken(
        organization_id=options.org,
        user_id=options.user,
        name=options.name,
        scopes=(ADMIN,) if options.admin else options.scopes,
        lifetime=options.expires,
    )


def _shown(token: Token, text: str) -> list[str]:
    """Return the token's text alone, for scripts; what else is to be said goes to standard error."""
    expires = f", until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else ""
    whose = f"user {token.user_id}" if token.user_id else "whomever each request names"
    sys.stderr.write(
        f"Token {token.id} for {whose} of organization {token.organization_id}{expires}. It is shown only now:\n"
    )
    return [text]


def _line(token: Token, now: datetime) -> str:
    state = "revoked" if token.revoked_at else "expired" if token.is_expired(now) else "valid"
    used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
    return "\t".join([token.id, state, token.user_id or "-", token.name or "-", used, ",".join(token.scopes)])


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90d, 12h or 30m")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _tokens_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"unpause {name}", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    create = _action(actions, "create", "make a token and print it, once")
    create.add_argument("--user", help="who it speaks for; without one, for whomever each request names")
    create.add_argument("--name", help="what to remember it by")
    create.add_argument("--scopes", type=_names, default=USUAL, help=f"default: {','.join(USUAL)}")
    create.add_argument("--admin", action="store_true", help=f"may do everything: {ADMIN}")
    create.add_argument("--expires", type=_duration, help="how long it counts, such as 90d; without it, until revoked")
    listed = _action(actions, "list", "list an organization's tokens, without their secrets")
    for command in (create, listed):
        command.add_argument("--org", type=int, default=DEFAULT_ORGANIZATION, help="organization, 1 by default")
    revoke = _action(actions, "revoke", "have a token count no more")
    rotate = _action(actions, "rotate", "make a token like another one, which then counts no more")
    rotate.add_argument(
        "--keep-old", type=_duration, default=timedelta(), help="how long the old one still counts, such as 24h"
    )
    for command in (revoke, rotate):
        command.add_argument("id", help="the token's id, as `list` shows it")
    return parser


def _organizations_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"unpause {name}", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    create = _action(actions, "create", "make an organization and print its id")
    create.add_argument("name", help="what it is called")
    _action(actions, "list", "list the organizations")
    return parser


def _action(actions: _Actions, name: str, text: str) -> argparse.ArgumentParser:
    command = actions.add_parser(name, help=text, description=text)
    command.add_argument("--database-url", help="default: UNPAUSE_DATABASE_URL, or unpause.db in this folder")
    return command
