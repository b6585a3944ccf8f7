"""Logging inside another program: through the standard library's loggers, which that program configures."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Of the applications that run: a line may have secrets of any of them.
_hiding: list[Callable[[str], str]] = []


@contextmanager
def logging_through_host(hide: Callable[[str], str]) -> Iterator[None]:
    """Log to the standard library's loggers during the block, below ``unpause``, without what ``hide`` hides.

    A program that has configured structlog itself has decided where its lines go.
    """
    _hiding.append(hide)
    try:
        if not structlog.is_configured():
            structlog.configure(
                processors=[
                    structlog.contextvars.merge_contextvars,
                    structlog.stdlib.filter_by_level,
                    structlog.processors.format_exc_info,
                    _as_text,
                ],
                wrapper_class=structlog.stdlib.BoundLogger,
                logger_factory=structlog.stdlib.LoggerFactory(),
                cache_logger_on_first_use=False,
            )
        yield
    finally:
        _hiding.remove(hide)


def _as_text(_: logging.Logger, __: str, event: structlog.typing.EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """Return the line as logging's arguments: the event, its details, and then the traceback."""
    text, trace = str(event.pop("event", "")), event.pop("exception", None)
    line = " ".join([text, *(f"{key}={value!r}" for key, value in event.items())])
    line = line if trace is None else f"{line}\n{trace}"
    for hide in _hiding:
        line = hide(line)
    return (line,), {}
