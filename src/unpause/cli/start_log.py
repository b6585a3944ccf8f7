"""The log lines of a start: the version and database, and that the process is ready."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import structlog

from unpause.cli.exits import drop_output
from unpause.store.engine.revisions import SCHEMA_REVISION
from unpause.store.engine.servers import shown_url
from unpause.version import VERSION

if TYPE_CHECKING:
    from unpause.bootstrap import Application

_log = structlog.get_logger(__name__)


def announce_start(application: Application) -> None:
    """Log that the process starts: its version, and its database without the password."""
    settings = application.settings
    _log.info(
        "process starting",
        version=VERSION,
        database=shown_url(application.database.url),
        schema=SCHEMA_REVISION,
        worker=settings.worker,
        agent_processes=settings.agent_processes,
    )


def announce_ready(application: Application, text: str, **details: str) -> None:
    """Log that the process is ready, and for which agents; print ``text`` for somebody who reads it.

    The text would be a line of another form among those of a log.
    """
    if sys.stdout.isatty() or application.settings.readable_logs:
        _print(text)
    _log.info("process ready", version=VERSION, agents=", ".join(sorted(application.agents.served.names)), **details)


def _print(text: str) -> None:
    """Print it, if that is possible: a server serves all the same."""
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads what agents print either: it must not fail them.
        drop_output()
    except OSError:
        # Such as one into a file on a full disk, which may have room later.
        _log.warning("the address could not be printed", exc_info=True)
