"""Logging of the process: one JSON object per line on standard error, or readable lines."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from contextlib import suppress
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Final, TextIO, cast

import structlog

from unpause.agents.redaction import Redaction
from unpause.domain.nodes import node_name
from unpause.telemetry.tracing import current_ids

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from unpause.operator_settings import LogLevel

    Hide = Callable[[str], str]

_log = structlog.get_logger(__name__)

# Libraries that log each request or connection at INFO, some with its URL.
_CHATTY: Final = (
    "httpx",
    "httpcore",
    "openai",
    "anthropic",
    "uvicorn",
    "asyncio",
    "alembic",
    "opentelemetry",
    "watchfiles",
)
# Rendered by us from an exception: the line ends in them are its own.
_TRACEBACKS: Final = frozenset({"exception", "stack"})
_NO_TEXT: Final = (int, float, NoneType)
_EXTRA: Final[structlog.typing.Processor] = structlog.stdlib.ExtraAdder()
# Of uvicorn: the message once more, for a terminal.
_NOT_EXTRA: Final = frozenset({"color_message", "event"})
# What each readable line has, and what only the library's own renderer writes.
_ALWAYS: Final = frozenset({"timestamp", "level", "event"})
_SELDOM: Final = frozenset({"exc_info", "exception", "stack", "logger", "logger_name"})
_QUOTED: Final = re.compile(r"""[ \t\r\n="']""")
# No secret goes on behind it.
_BETWEEN: Final = "\0"


def configure_logging(redaction: Redaction, *, readable: bool, level: LogLevel = "info") -> None:
    """Send the logs of the server and its libraries to standard error, without known secrets.

    Bodies and headers are never logged. Exceptions of agents, tools and libraries are, with their messages. Each line
    names its ``node``: the machine and the process that wrote it.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_node(node_name()),
        _add_trace,
    ]
    last = _readable(redaction.hide) if readable else _json(redaction.hide)
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=partial(_logger_for, sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        # Who logs through the standard library is known by the name of its logger.
        foreign_pre_chain=[_add_extra, *shared, structlog.stdlib.add_logger_name],
    )
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=number, force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(number if number < logging.INFO else max(number, logging.WARNING))


class _UnfailingLogger(structlog.WriteLogger):
    """Writes the lines that can be written: a full disk, or a tool that closes the file, fails nothing but the log."""

    def msg(self, message: str) -> None:
        """Write a line, if that is possible."""
        with suppress(OSError, ValueError):
            super().msg(message)

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


def _logger_for(file: TextIO, *_: object) -> _UnfailingLogger:
    return _UnfailingLogger(file)


def configure_command_logging() -> None:
    """Send warnings of a command that works beside servers to standard error: scripts read its standard output."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, *_readable(Redaction(os.environ).hide)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _json(hide: Hide) -> list[structlog.typing.Processor]:
    return [structlog.processors.format_exc_info, _redact_values(hide), structlog.processors.JSONRenderer()]


def _readable(hide: Hide) -> list[structlog.typing.Processor]:
    # Where rich is installed the default would print the values of all variables, secrets among them.
    plain = structlog.dev.plain_traceback
    colors = sys.stderr.isatty()
    console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
    render = console if colors else without_colors(console)
    return [structlog.processors.StackInfoRenderer(), _escape_controls, _redact_text(render, hide)]


def without_colors(console: structlog.typing.Processor) -> structlog.typing.Processor:
    """Return what writes lines as ``console`` does without colors, in half of the time: a run writes four."""

    def render(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        if not (_SELDOM.isdisjoint(event) and event.keys() >= _ALWAYS):
            return str(console(logger, name, event))
        fields = [f"{key}={_quoted(event[key])}" for key in sorted(event) if key not in _ALWAYS]
        head = f"{event['timestamp']} [{event['level']:9}] {event['event']!s:30}"
        return " ".join((head, *fields)).rstrip(" ")

    return render


def _quoted(value: object) -> str:
    return value if isinstance(value, str) and not _QUOTED.search(value) else repr(value)


def _add_extra(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Add what an author gave as `extra`; what is a line's own stays."""
    found = cast("structlog.typing.EventDict", _EXTRA(logger, name, dict(event)))
    extra = {key: value for key, value in found.items() if key not in _NOT_EXTRA}
    return {**extra, "event": event["event"]}


def _add_node(node: str) -> structlog.typing.Processor:
    def add(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["node"] = node
        return event

    return add


def _add_trace(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    event.update(current_ids())
    return event


def _escape_controls(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what would end the line or control the terminal: a client's text must not look like a line of ours."""
    return {
        key: _escaped(value) if isinstance(value, str) and key not in _TRACEBACKS else value
        for key, value in event.items()
    }


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def _redact_values(hide: Hide) -> structlog.typing.Processor:
    """Redact the values before they become JSON, which would escape them."""

    def clean(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        texts = {key: str(value) for key, value in event.items() if not isinstance(value, _NO_TEXT)}
        # Mostly there is no secret, and one search through all values takes a fraction of one through each.
        together = _BETWEEN.join(texts.values())
        if hide(together) != together:
            texts = {key: hide(text) for key, text in texts.items()}
        return {**event, **texts}

    return clean


def _redact_text(render: structlog.typing.Processor, hide: Hide) -> structlog.typing.Processor:
    """Redact the rendered text: the traceback is added last."""

    def clean(logger: object, name: str, event: structlog.typing.EventDict) -> str:
        return hide(str(render(logger, name, event)))

    return clean


def log_uncaught() -> None:
    """Have warnings, and exceptions that nobody catches, be lines of the log, and not plain text on standard error."""
    logging.captureWarnings(capture=True)

    def uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
        else:
            _log.critical("uncaught exception", exc_info=(kind, error, traceback))

    def uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            thread = args.thread.name if args.thread is not None else None
            _log.error("uncaught exception in a thread", thread=thread, exc_info=args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        _log.error("exception ignored", where=repr(args.object)[:200], exc_info=args.exc_value)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_in_thread
    sys.unraisablehook = unraisable
