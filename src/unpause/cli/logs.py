"""Logging of the process: one JSON object per line on standard error, or readable lines."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

from unpause.domain.nodes import node_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpause.agents.redaction import Redaction


def configure_logging(redaction: Redaction, *, readable: bool) -> None:
    """Send the logs of the server and its libraries to standard error, without known secrets.

    Bodies and headers are never logged. Exceptions of agents, tools and libraries are, with their messages. Each line
    names its ``node``: the machine and the process that wrote it.
    """
    last: list[structlog.typing.Processor]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_node(node_name()),
    ]
    hide = redaction.hide
    if readable:
        # Where rich is installed the default would print the values of all variables, secrets among them.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
        last = [structlog.processors.StackInfoRenderer(), _redact_text(console, hide)]
    else:
        last = [structlog.processors.format_exc_info, _redact_values(hide), structlog.processors.JSONRenderer()]
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


def _add_node(node: str) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["node"] = node
        return event

    return add


def _redact_values(hide: Callable[[str], str]) -> structlog.typing.Processor:
    """Redact the values before they become JSON, which would escape them."""

    def clean(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {
            key: value if isinstance(value, int | float | None) else hide(str(value)) for key, value in event.items()
        }

    return clean


def _redact_text(render: structlog.typing.Processor, hide: Callable[[str], str]) -> structlog.typing.Processor:
    """Redact the rendered text: the traceback is added last."""

    def clean(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        return hide(str(render(logger, name, event)))

    return clean
