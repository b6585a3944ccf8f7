"""The command ``unpause``: its subcommands, and how it refuses: with a message on standard error and exit code 2."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, NoReturn

from cyclopts import App, CycloptsError, UnknownCommandError, UnusedCliTokensError
from cyclopts.help import format_usage

from unpause.cli.collecting import without_collections
from unpause.errors import Startup

if TYPE_CHECKING:
    from collections.abc import Sequence

_REFUSED = 2


def _version() -> str:
    # Reading the package's metadata takes longer than all the rest of a command's start.
    from unpause.version import VERSION  # noqa: PLC0415

    return VERSION


app = App(
    name="unpause",
    version=_version,
    # Markdown would take a fifth of a second to load.
    help_format="plaintext",
    help="Serve AI agents that pause for a human, and continue them.\n\n"
    "`unpause COMMAND --help` lists the options of a command. Those of `serve`, `worker` and `demo` are also "
    "environment variables: `--database-url` is `UNPAUSE_DATABASE_URL`.",
)

# By name: a server does not load what only `db` needs, nor `db` what only a server needs.
for _place, (_name, _function, _help) in enumerate(
    (
        ("serve", "serve:serve", "Serve agents over HTTP: `unpause serve --agents mypackage.agents`."),
        ("worker", "worker:worker", "Execute runs for servers that share a PostgreSQL; listen on no port."),
        ("demo", "serve:demo", "Serve the demo agent on a scratch workspace, without a key."),
        ("db", "db:app", "Upgrade, downgrade, show or check the database schema."),
        ("tokens", "tokens:tokens", "Create, list, revoke or rotate tokens."),
        ("organizations", "tokens:organizations", "Create or list organizations."),
        ("keys", "keys:app", "Create a key that encrypts secrets."),
        ("settings", "documents:settings", "Print all settings, in Markdown."),
        ("openapi", "documents:openapi", "Write the OpenAPI documents."),
    )
):
    app.command(f"unpause.cli.{_function}", name=_name, help=_help, sort_key=_place)


@app.command(sort_key=99)
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script that completes commands and options, for `source` or your shell's folder of completions."""
    # bandit takes the name of a shell for the argument that starts one.
    script = app.generate_completion(shell=shell)  # nosec B604
    sys.stdout.write(script)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 0, or with 2 and a message that says what is wrong."""
    try:
        with without_collections():
            command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
        command(*bound.args, **bound.kwargs)
    except CycloptsError as error:
        _refuse_usage(error)
    except Startup as error:
        _refuse(error.message)


def _refuse_usage(error: CycloptsError) -> NoReturn:
    error.verbose = False
    chain = error.command_chain or ()
    match error:
        case UnknownCommandError(unused_tokens=[name, *_]):
            # cyclopts' own message would load all commands.
            near = get_close_matches(name, error.app or (), 1)
            message = f"Unknown command: {name}." + (f" Did you mean {near[0]}?" if near else "")
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            message = f"Unexpected argument: {word}."
        case _:
            message = str(error)
    _refuse(
        message, f"Usage: {format_usage(app, chain)}".strip(), f"`{' '.join(['unpause', *chain])} --help` explains it."
    )


def _refuse(reason: str, *usage: str) -> NoReturn:
    # The reason in one line, whatever text a failing module of the user has.
    sys.stderr.write("\n".join([f"unpause: {' '.join(reason.split())}", *usage, ""]))
    sys.exit(_REFUSED)
