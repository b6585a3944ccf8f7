"""``unpause login-link``: a link that signs somebody in to the console once."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from unpause.auth.console_sessions import LINK_LIFETIME, create_login_link
from unpause.cli.databases import command_line, open_database
from unpause.cli.exits import tell
from unpause.cli.options import DatabaseUrl
from unpause.cli.tokens import TokenOptions
from unpause.errors import InvalidSetting
from unpause.settings import Settings

_NO_OPTIONS = TokenOptions()
_Url = Annotated[
    str | None,
    Parameter(metavar="URL", help="URL of the server; by default the setting `public_url`, or host and port."),
]


def login_link(*, options: TokenOptions = _NO_OPTIONS, url: _Url = None, database_url: DatabaseUrl = None) -> None:
    """Print a link that signs in to the console once, within 15 minutes; by default for 12 hours."""
    if options.user is None:
        raise InvalidSetting("--user is missing: the name under which decisions are recorded")
    base = _base(url)
    with open_database(database_url) as (connection, now):
        code = create_login_link(connection, options.new_token(), command_line(options.org), now)
    minutes = int(LINK_LIFETIME.total_seconds() // 60)
    tell(
        f"Signs in {options.user}, of organization {options.org}, once within {minutes} minutes. "
        "It is a token in `unpause tokens list`: revoke it to end the session.\n"
    )
    sys.stdout.write(f"{base}/console/login?code={code}\n")


def _base(url: str | None) -> str:
    """Return the server's URL, without a trailing slash."""
    settings = Settings()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    base = (url or settings.public_url or f"http://{host}:{settings.port}").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise InvalidSetting(f"--url must begin with https:// or http://: {base}")
    return base
