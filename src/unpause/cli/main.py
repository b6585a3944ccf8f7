"""The command ``unpause``: its subcommands, and how it refuses: with a message on standard error and exit code 2."""

from __future__ import annotations

import errno
import os
import re
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal, NoReturn

from cyclopts import App, CycloptsError, Group, UnknownCommandError, UnusedCliTokensError

from unpause.cli.exits import CommandFailed, Exit, drop_output, reason_of, tell
from unpause.cli.loading import without_collections
from unpause.cli.people.escapes import harmless
from unpause.errors import Startup, StorageError, UnpauseError
from unpause.lazy import LazyModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import help as cyclopts_help

    from unpause import version
    from unpause.cli import logs
else:
    cyclopts_help = LazyModule("cyclopts.help")
    logs = LazyModule("unpause.cli.logs")
    version = LazyModule("unpause.version")

# One that somebody typed where none belongs must not be repeated in a log of errors.
_TOKEN = re.compile(r"unp_[\w.-]+|eyJ[\w.-]+")

# Why standard output takes no more.
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def _version() -> str:
    # Reading the package's metadata takes longer than all the rest of a command's start.
    return version.VERSION


app = App(
    name="unpause",
    version=_version,
    # Markdown would take a fifth of a second to load.
    help_format="plaintext",
    help="Serve AI agents that pause for a human, and continue them.\n\n"
    "`unpause COMMAND --help` lists the options of a command. Those of `serve`, `worker` and `demo` are also "
    "environment variables: `--database-url` is `UNPAUSE_DATABASE_URL`.",
)

# By name: a server does not load what only `db` needs, nor a client what only a server needs.
_COMMANDS = {
    "For people": (
        ("inbox", "people.inbox:inbox", "List what waits for your decision, and watch it."),
        ("show", "people.inbox:show", "Show a request: its arguments, and what led to it."),
        ("approve", "people.decide:approve", "Approve a call, with changed arguments or values of its form."),
        ("reject", "people.decide:reject", "Reject a call."),
        ("answer", "people.decide:answer", "Answer a question of the model in words."),
        ("result", "people.decide:result", "Give the result of a call that runs outside."),
        ("run", "people.follow:run", "Start a run, and follow it."),
        ("runs", "people.runs:app", "List, show, follow, cancel, pause or resume runs."),
        ("grants", "people.grants:app", "List or revoke decisions that count for later calls."),
        ("audit", "people.audit:app", "List who decided or changed what."),
        ("status", "people.status:status", "Show whether the server is ready, its workers, and what waits."),
        ("login", "people.login:login", "Check a token with a server and keep it for later commands."),
        ("logout", "people.login:logout", "Forget the token of a server."),
    ),
    "Server": (
        ("serve", "serve:serve", "Serve agents over HTTP: `unpause serve --agents mypackage.agents`."),
        ("worker", "worker:worker", "Execute runs for servers that share a PostgreSQL; listen on no port."),
        ("agents", "agents:app", "Check agents before they are served: `unpause agents check agents.py`."),
        ("demo", "serve:demo", "Serve the demo agent on a scratch workspace, without a key."),
        ("db", "db:app", "Upgrade, downgrade, show or check the database schema; back up and restore."),
        ("tokens", "tokens:app", "Create, list, revoke or rotate tokens."),
        ("login-link", "login_link:login_link", "Print a link that signs somebody in to the console once."),
        ("organizations", "organizations:app", "Create or list organizations, and set how long to keep their data."),
        ("users", "users:app", "Erase a user."),
        ("deliveries", "deliveries:app", "Delete old webhooks and notifications."),
        ("notify", "notify:app", "Add, list, remove or test channels of notifications."),
        ("keys", "keys:app", "Create or rotate keys that encrypt secrets."),
        ("metrics", "metrics_files:app", "Print the dashboard and the alert rules for the metrics."),
        ("settings", "documents:settings", "Print all settings, in Markdown."),
        ("openapi", "documents:openapi", "Write the OpenAPI documents."),
    ),
}
for _order, (_heading, _commands) in enumerate(_COMMANDS.items()):
    _group = Group(_heading, sort_key=_order)
    for _place, (_name, _function, _help) in enumerate(_commands):
        app.command(f"unpause.cli.{_function}", name=_name, help=_help, sort_key=_place, group=_group)


@app.command(sort_key=99)
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script that completes commands and options, for `source` or your shell's folder of completions."""
    # bandit takes the name of a shell for the argument that starts one.
    script = app.generate_completion(shell=shell)  # nosec B604
    sys.stdout.write(script)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 0, or with another code of ``Exit`` and a message that says what is wrong."""
    _open_closed_streams()
    try:
        with without_collections():
            command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
            if "structlog" in sys.modules:
                # Not loaded by what people use, which has to start at once. Servers configure it again.
                logs.configure_command_logging()
        command(*bound.args, **bound.kwargs)
        sys.stdout.flush()
    except CycloptsError as error:
        _refuse_usage(error)
    except Startup as error:
        _refuse(error.message, Exit.USAGE)
    except CommandFailed as error:
        _refuse(error.message, error.code)
    except (UnpauseError, StorageError) as error:
        # Such as a database that went away, or a user that may only read.
        _refuse(reason_of(error), Exit.FAILED)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except (BrokenPipeError, SystemExit) as error:
        _end_unread(error)
    except (UnicodeError, OSError) as error:
        _refuse_input_or_output(error)


def _open_closed_streams() -> None:
    """Refuse a closed standard output, which may be for a token that is shown once; open others that are closed."""
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8")
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")
    if sys.stdout is None:
        _refuse("standard output is closed", Exit.FAILED)


def _refuse_input_or_output(error: UnicodeError | OSError) -> NoReturn:
    """Refuse what could not be read or written, such as a file whose name is too long."""
    if isinstance(error, UnicodeEncodeError):
        # Escapes in their place would not be the JSON or the name that a script reads.
        _refuse(f"the output is in {error.encoding}, which does not have all characters; set PYTHONUTF8=1", Exit.FAILED)
    if isinstance(error, UnicodeError):
        _refuse(f"the input is not UTF-8: {error}", Exit.USAGE)
    if error.errno in _NO_ROOM and error.filename is None:
        drop_output()
        _refuse(f"the output could not be written: {error.strerror}", Exit.FAILED)
    reason = error.strerror or str(error)
    if error.errno == errno.ENOENT and error.filename is None:
        reason = "the working folder does not exist any more"
    _refuse(reason if error.filename is None else f"{error.filename}: {reason}", Exit.FAILED)


def _end_unread(error: BrokenPipeError | SystemExit) -> NoReturn:
    """End the command whose output nobody reads any more; raise any other end again."""
    # What prints help ends the process itself where its output is not read, with a code of its own.
    if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
        raise error
    drop_output()
    sys.exit(Exit.PIPE_CLOSED)


def _refuse_usage(error: CycloptsError) -> NoReturn:
    error.verbose = False
    chain = error.command_chain or ()
    commands = [name for name in error.app or () if not name.startswith("-")]
    match error:
        # A word where a command was expected; cyclopts' own message would load all commands.
        case UnknownCommandError(unused_tokens=[word, *_]) | UnusedCliTokensError(unused_tokens=[word, *_]) if commands:
            near = get_close_matches(word, commands, 1)
            message = f"Unknown command: {word}." + (f" Did you mean {near[0]}?" if near else "")
        case UnusedCliTokensError(unused_tokens=[word, *_]):
            message = f"Unexpected argument: {word}."
        case _:
            message = str(error)
    _refuse(
        _TOKEN.sub("…", message),
        Exit.USAGE,
        # What prints help takes a tenth of a command's start.
        f"Usage: {cyclopts_help.format_usage(app, chain)}".strip(),
        f"`{' '.join(['unpause', *chain])} --help` explains it.",
    )


def _refuse(reason: str, code: Exit, *usage: str) -> NoReturn:
    # The reason in one line, whatever text a failing module or a server has.
    tell("\n".join([f"unpause: {harmless(' '.join(reason.split()))}", *usage, ""]))
    sys.exit(code)
