"""``unpause login`` and ``unpause logout``: keep the token of a server."""

from __future__ import annotations

import getpass
import os
import sys
import warnings
from typing import Annotated

from cyclopts import Parameter

from unpause.cli.exits import CommandFailed, Exit, tell
from unpause.cli.people.client import Client
from unpause.cli.people.credentials import Stored, check_token, credentials_of, is_loopback, read_url
from unpause.cli.people.escapes import harmless
from unpause.cli.people.options import PRINTED, Output

ServerUrl = Annotated[str, Parameter(metavar="URL", help="The server, such as https://unpause.example.")]


def login(url: ServerUrl, /, *, output: Output = PRINTED) -> None:
    """Check a token with the server and keep it; it is read without echo, or from standard input."""
    chosen = read_url(url)
    token = _needed_token(chosen)
    with Client(chosen, token) as client:
        me = client.get("/me")
    user = me.get("name") or me.get("user_id")
    credentials = credentials_of(os.environ)
    credentials.put(chosen, Stored(token, user))
    who = f" as {harmless(str(user))}" if user else ""
    output.printer().object(
        {"url": chosen, **me}, chosen, f"Logged in to {chosen}{who}; later commands use this server"
    )


def logout(
    url: Annotated[str | None, Parameter(metavar="URL", help="By default that of the last login.")] = None,
    /,
    *,
    output: Output = PRINTED,
) -> None:
    """Forget the token of a server. The token stays valid: an administrator can revoke it."""
    credentials = credentials_of(os.environ)
    chosen = read_url(url) if url else credentials.last
    if chosen is None or not credentials.remove(chosen):
        raise CommandFailed(f"There is no login to {chosen or 'any server'}", Exit.NOT_FOUND)
    output.printer().object({"url": chosen}, chosen, f"Logged out of {chosen}")


def _needed_token(url: str) -> str | None:
    """Return the token to keep; None where the server needs none. Raise CommandFailed if the server is not there."""
    with Client(url, None) as client:
        try:
            client.get("/me")
        except CommandFailed as error:
            if error.code is not Exit.FORBIDDEN:
                raise
        else:
            return None
    if url.startswith("http:") and not is_loopback(url):
        tell(f"{url} is not encrypted: others on the way can read the token\n")
    return check_token(_read_token(url))


def _read_token(url: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    with warnings.catch_warnings():
        # It would go on with echo.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"Token for {url}: ")
        except (EOFError, getpass.GetPassWarning):
            raise CommandFailed("The token could not be read without echo: send it to standard input") from None
