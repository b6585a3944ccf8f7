"""Tokens of a server process that asks for them: the one it printed at its first start, and new ones."""

from __future__ import annotations

import re

from tests.support.processes import Finished, ServerProcess, unpause

ASKING = {"UNPAUSE_DEV": "false"}

_TOKEN = re.compile(r"unp_[\w-]{8}\.[\w-]{43}")


def first_token(server: ServerProcess) -> str:
    """Return the administrator's token that the server wrote to a file when it first started."""
    text = (server.folder / "unpause-admin-token").read_text().strip()
    assert _TOKEN.fullmatch(text), "alone in its file"
    return text


def new_token(server: ServerProcess, *options: str) -> str:
    """Return a token made beside the running server, with the options of `unpause tokens create`."""
    return _run(server, "tokens", "create", *options).stdout.strip()


def add_organization(server: ServerProcess, name: str) -> None:
    """Make an organization; the first one made has the number 2."""
    _run(server, "organizations", "create", name)


def proof(token: str) -> dict[str, str]:
    """Return the header field that a client sends."""
    return {"Authorization": f"Bearer {token}"}


def _run(server: ServerProcess, *arguments: str) -> Finished:
    done = unpause(*arguments, "--database-url", f"sqlite:///{server.database}", folder=server.folder)
    assert done.returncode == 0, done.stderr
    return done
