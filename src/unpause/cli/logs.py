"""How the process logs: one JSON object a line on standard error, or readable lines for a person."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logging(*, readable: bool) -> None:
    """Send the logs of the server and its libraries to standard error; bodies and headers are never among them."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer()
    traceback: structlog.typing.Processor = structlog.processors.format_exc_info
    if readable:
        # Where rich is installed the default would print the values of all variables, secrets among them.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        traceback = structlog.processors.StackInfoRenderer()
    structlog.configure(
        processors=[*shared, traceback, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, traceback, renderer],
        foreign_pre_chain=shared,
    )
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
