"""The first administrator's token of a database: without one nobody could use the server."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from unpause.auth.tokens import create_first_token
from unpause.store.engine.dialects import read_now
from unpause.store.engine.schema import plain_connection

_log = structlog.get_logger(__name__)

_OWNER_ONLY: Final = 0o600


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
