"""How tests log where no server has said it."""

from __future__ import annotations

import structlog


def log_plainly() -> None:
    """Log as the server does: with rich, structlog's default draws all variables beside a traceback, for minutes."""
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
