"""What a process writes when it starts: its settings in brief, when it is ready, and the first token of a database."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from unpause.auth.tokens import create_first_token
from unpause.store.engine.dialects import read_now
from unpause.store.engine.schema import SCHEMA_REVISION, plain_connection
from unpause.version import VERSION

if TYPE_CHECKING:
    from unpause.bootstrap import Application

_log = structlog.get_logger(__name__)

_OWNER_ONLY: Final = 0o600


def announce_start(application: Application) -> None:
    """Log with what the process starts: its version, and its database without the password."""
    settings = application.settings
    _log.info(
        "process starting",
        version=VERSION,
        database=application.database.url.render_as_string(hide_password=True),
        schema=SCHEMA_REVISION,
        worker=settings.worker,
        agent_processes=settings.agent_processes,
    )


def announce_ready(application: Application, text: str, **details: str) -> None:
    """Log that the process is ready, and for which agents; print ``text`` for somebody who reads it.

    The text would be a line of another form among those of a log.
    """
    if sys.stdout.isatty() or application.settings.readable_logs:
        sys.stdout.write(text)
        sys.stdout.flush()
    _log.info("process ready", version=VERSION, agents=", ".join(sorted(application.agents.served.names)), **details)


def make_first_token(database_url: str, path: Path) -> None:
    """Create an administrator's token if the database has none: without one nobody could use the server.

    A terminal shows it. Otherwise it is in a file for its owner only, since logs are read by many and kept for long.
    """
    try:
        with plain_connection(database_url) as connection, connection.begin():
            text = create_first_token(connection, read_now(connection, datetime.now(UTC)))
            if text is not None and not sys.stdout.isatty():
                # Within the transaction: a token that nobody can read must not be the only one.
                _write_private(path, text)
    except OSError as error:
        reason = f"{path}: {error.strerror}"
        _log.error("first administrator's token not created", reason=reason, help="unpause tokens create --admin")
        return
    if text is None:
        return
    if sys.stdout.isatty():
        sys.stdout.write(f"An administrator's token, shown only now: {text}\n")
        sys.stdout.flush()
    else:
        _log.warning("first administrator's token created", file=str(path.absolute()))


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        # One that was there already may have been open to others.
        os.fchmod(descriptor, _OWNER_ONLY)
        file.write(f"{text}\n")
