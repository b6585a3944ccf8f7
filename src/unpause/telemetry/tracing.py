"""Spans of OpenTelemetry, where it is enabled; else nothing is imported, and nothing costs anything.

A run has one trace: its root is the span of the create, whose context is stored with the run. Each segment is a child
of the root, on whichever process and however long after, and has a link to the request that continued the run.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Span, Tracer, TracerProvider

F = TypeVar("F", bound="Callable[..., Awaitable[Any]]")

_NAME: Final = "unpause"
_KEY: Final = "traceparent"


class _OpenTelemetry:
    """The parts of its API that are used here."""

    def __init__(self, provider: TracerProvider) -> None:
        # Here: a process without traces does not load it.
        from opentelemetry import trace  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self.api = trace
        self.tracer: Tracer = provider.get_tracer(_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def context_of(self, text: str | None, state: str | None = None) -> Context:
        """Return the context that a ``traceparent`` names; an empty one where it is none."""
        from opentelemetry.context import Context  # noqa: PLC0415

        carrier = {name: value for name, value in ((_KEY, text), ("tracestate", state)) if value}
        return self._propagator.extract(carrier, context=Context())

    def text_of_current(self) -> str | None:
        """Return the ``traceparent`` of the present span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get(_KEY)

    def links_to(self, text: str | None) -> list[Link]:
        """Return a link to the span that a ``traceparent`` names."""
        context = self.api.get_current_span(self.context_of(text)).get_span_context()
        return [self.api.Link(context)] if context.is_valid else []


class _State:
    """Whether this process traces."""

    otel: _OpenTelemetry | None = None


def enable_tracing(provider: TracerProvider) -> None:
    """Trace from here on, for as long as the process lives or until ``disable_tracing``."""
    _State.otel = _OpenTelemetry(provider)


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


def new_trace() -> dict[str, str]:
    """Return the column of a new run that keeps its root: the present span."""
    text = current_trace()
    return {} if text is None else {"trace": text}


def continued_trace(stored: str | None, link: str | None) -> dict[str, str]:
    """Return the column of a run that a request continues: its root, and the span of the request."""
    if link is None:
        return {}
    root = link if stored is None else stored.partition(" ")[0]
    return {"trace": f"{root} {link}"}


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
    """Open a span for the block below the one that a ``traceparent`` names, perhaps of another process.

    A second ``traceparent`` behind it is that of the request to link to.
    """
    otel = _State.otel
    if otel is None:
        return nullcontext()
    parent, _, link = (text or "").partition(" ")
    return otel.tracer.start_as_current_span(
        name, otel.context_of(parent), links=otel.links_to(link), attributes=_attributes(attributes)
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
    from opentelemetry.context import attach, detach  # noqa: PLC0415

    token = attach(otel.context_of(traceparent))
    try:
        yield
    finally:
        detach(token)


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
