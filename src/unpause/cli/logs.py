"""How the process logs: one JSON object a line on standard error, or readable lines for a person."""

from __future__ import annotations

import logging
import os
import platform
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpause.agents.redaction import Redaction


def configure_logging(redaction: Redaction, *, readable: bool) -> None:
    """Send the logs of the server and its libraries to standard error, without the secrets that are known.

    Bodies and headers are never among them. What an agent, a tool or a library raises is, with its message. Each line
    names its ``node``, the machine and the process that wrote it.
    """
    node = f"{platform.node()}:{os.getpid()}"
    last: list[structlog.typing.Processor]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(node),
    ]
    hide = redaction.hide
    if readable:
        # Where rich is installed the default would print the values of all variables, secrets among them.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        last = [structlog.processors.StackInfoRenderer(), _hidden_after(console, hide)]
    else:
        last = [structlog.processors.format_exc_info, _hidden_before(hide), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        foreign_pre_chain=shared,
    )
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _naming(node: str) -> structlog.typing.Processor:
    def name(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["node"] = node
        return event

    return name


def _hidden_before(hide: Callable[[str], str]) -> structlog.typing.Processor:
    """Return what takes secrets out of the values: in a line of JSON they would be escaped."""

    def clean(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {
            key: value if isinstance(value, int | float | None) else hide(str(value)) for key, value in event.items()
        }

    return clean


def _hidden_after(render: structlog.typing.Processor, hide: Callable[[str], str]) -> structlog.typing.Processor:
    """Return what takes secrets out of the readable text, into which a traceback is written last."""

    def clean(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        return hide(str(render(logger, name, event)))

    return clean
