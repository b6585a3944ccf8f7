"""Spans of OpenTelemetry, where it is enabled; else nothing is imported, and nothing costs anything.

A run has one trace: its root is the span of the create, whose context is stored with the run. Each segment is a child
of the root, on whichever process and however long after, and has a link to the request that continued the run. Stored
with them, also where nothing is traced, is the id of the request that created or last continued the run.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from structlog.contextvars import get_contextvars

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.trace import Span

    from unpause.telemetry.otel import OpenTelemetry

F = TypeVar("F", bound="Callable[..., Awaitable[Any]]")

# For a part of an origin that there is not.
_NONE: Final = "-"


class Origin(NamedTuple):
    """Where a run comes from: its root span, the span to link to, and the id of the request; the column ``trace``."""

    root: str | None = None
    link: str | None = None
    request_id: str | None = None

    @classmethod
    def read(cls, text: str | None) -> Origin:
        """Return what is stored with a run."""
        parts = (text or "").split(" ")
        return cls(*(None if part in {"", _NONE} else part for part in parts[:3]))

    def column(self) -> dict[str, str]:
        """Return the column of a run, as short as it can be."""
        text = " ".join(part or _NONE for part in self)
        while text.endswith(f" {_NONE}"):
            text = text.removesuffix(f" {_NONE}")
        return {} if text == _NONE else {"trace": text}


class _State:
    """Whether this process traces."""

    otel: OpenTelemetry | None = None


def enable_tracing(otel: OpenTelemetry) -> None:
    """Trace from here on, for as long as the process lives or until ``disable_tracing``."""
    _State.otel = otel


def disable_tracing() -> None:
    """Trace no more."""
    _State.otel = None


def is_tracing() -> bool:
    """Whether this process traces."""
    return _State.otel is not None


def current_trace() -> str | None:
    """Return the ``traceparent`` of the present span; None without one."""
    return None if _State.otel is None else _State.otel.text_of_current()


def current_ids() -> Mapping[str, str]:
    """Return the ids of the present trace and span, for a line of the log."""
    otel = _State.otel
    if otel is None:
        return {}
    context = otel.api.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def current_origin() -> Origin:
    """Return the present span, to link to, and the id of the present request."""
    return Origin(link=current_trace(), request_id=get_contextvars().get("request_id"))


def new_trace() -> dict[str, str]:
    """Return the column of a new run that keeps its root, the present span, and the request."""
    present = current_origin()
    return Origin(root=present.link, request_id=present.request_id).column()


def continued_trace(stored: str | None, present: Origin) -> dict[str, str]:
    """Return the column of a run that a request continues: its root, and the span and id of the request."""
    return present._replace(root=Origin.read(stored).root or present.link).column()


def span(name: str, **attributes: object) -> AbstractContextManager[Span | None]:
    """Open a span below the present one for the length of the block; None where nothing is traced."""
    if _State.otel is None:
        return nullcontext()
    return _State.otel.tracer.start_as_current_span(name, attributes=_attributes(attributes))


def note_span(name: str, began: int) -> None:
    """Add a span below the present one that ends now; ``began`` is by ``time.time_ns``."""
    if _State.otel is not None:
        _State.otel.tracer.start_span(name, start_time=began).end()


def span_below(text: str | None, name: str, **attributes: object) -> AbstractContextManager[Span | None]:
    """Open a span for the block below the root that is stored with a run, with a link to the request behind it."""
    otel = _State.otel
    if otel is None:
        return nullcontext()
    origin = Origin.read(text)
    return otel.tracer.start_as_current_span(
        name, otel.context_of(origin.root), links=otel.links_to(origin.link), attributes=_attributes(attributes)
    )


@contextmanager
def request_span(traceparent: str | None, tracestate: str | None, method: str) -> Iterator[Span | None]:
    """Open the span of a request, below the caller's own where it sent a context."""
    otel = _State.otel
    if otel is None:
        yield None
        return
    context, kind = otel.context_of(traceparent, tracestate), otel.api.SpanKind.SERVER
    with otel.tracer.start_as_current_span(method, context, kind=kind) as opened:
        yield opened


@contextmanager
def below(traceparent: str | None) -> Iterator[None]:
    """Have spans of the block, such as those of Pydantic AI, be below one of another process."""
    otel = _State.otel
    if otel is None:
        yield
        return
    with otel.within(traceparent):
        yield


def end_request_span(opened: Span, method: str, route: str, status: int) -> None:
    """Name the request's span by its route, once that is known."""
    opened.update_name(f"{method} {route}")
    opened.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})


def traced(name: str) -> Callable[[F], F]:
    """Have an async function run in a span of this name."""

    def decorate(function: F) -> F:
        @wraps(function)
        async def call(*args: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever the function takes
            if _State.otel is None:
                return await function(*args, **options)
            with span(name):
                return await function(*args, **options)

        return call  # type: ignore[return-value]  # it has the signature of what it wraps

    return decorate


def _attributes(values: Mapping[str, object]) -> dict[str, Any]:
    return {f"unpause.{name}": value for name, value in values.items() if value is not None}
