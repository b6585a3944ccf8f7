"""Where the command starts: picks the subcommand, and turns refusals into one line on standard error."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from pydantic import ValidationError

from unpause.cli.gc import not_collecting
from unpause.errors import Startup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_USAGE = """\
usage: unpause COMMAND [options]

  serve     serve your agents:  unpause serve --agents mypackage.agents
  worker    execute runs for servers that share a PostgreSQL; listens on no port
  demo      serve the demo agent on a scratch workspace; needs no key
  db        upgrade, downgrade, current or check the database schema
  tokens    create, list, revoke or rotate tokens
  organizations  create or list organizations
  keys      print a new key to encrypt secrets with
  settings  print the table of all settings
  openapi   write the OpenAPI documents into a folder

`unpause COMMAND --help` lists the options.
Each is also an environment variable: --database-url is UNPAUSE_DATABASE_URL.
"""

# By name, because a server should not load what only `db` needs, nor `db` what only a server needs.
_COMMANDS = {
    "serve": "unpause.cli.serve",
    "worker": "unpause.cli.worker",
    "demo": "unpause.cli.serve",
    "db": "unpause.cli.db",
    "tokens": "unpause.cli.tokens",
    "organizations": "unpause.cli.tokens",
    "keys": "unpause.cli.keys",
    "settings": "unpause.cli.documents",
    "openapi": "unpause.cli.documents",
}

_REFUSED = 2

_TAKING_KEYS = ("--encryption-key", "--encryption_key")
# 32 bytes in URL-safe base64; older ones may follow.
_DASHED_KEY = re.compile(r"-[A-Za-z0-9_-]{42}=(?:,|$)")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 0, or with 2 and one line that says what is wrong."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else "--help"
    if name not in _COMMANDS:
        known = name in {"-h", "--help", "help"}
        (sys.stdout if known else sys.stderr).write(_USAGE)
        sys.exit(0 if known else _REFUSED)
    with not_collecting():
        run: Callable[[str, list[str]], None] = import_module(_COMMANDS[name]).run
    try:
        run(name, _joined(given[1:]))
    except Startup as error:
        _refuse(error.message)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
        _refuse("; ".join(wrong))


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a key that begins with a dash joined to its option, which it would be taken for."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in _TAKING_KEYS and _DASHED_KEY.match(argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _refuse(reason: str) -> None:
    # One line, whatever a failing module of the user's had to say.
    sys.stderr.write(f"unpause: {' '.join(reason.split())}\n")
    sys.exit(_REFUSED)
