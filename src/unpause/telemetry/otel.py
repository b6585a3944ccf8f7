"""The parts of OpenTelemetry's API that spans are made with. Only a process that traces loads it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Link, Tracer, TracerProvider

_NAME: Final = "unpause"
_KEY: Final = "traceparent"


class OpenTelemetry:
    """Makes spans, and writes and reads their contexts as text."""

    api = trace

    def __init__(self, provider: TracerProvider) -> None:
        self.tracer: Tracer = provider.get_tracer(_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def context_of(self, text: str | None, state: str | None = None) -> Context:
        """Return the context that a ``traceparent`` names; an empty one where it is none."""
        carrier = {name: value for name, value in ((_KEY, text), ("tracestate", state)) if value}
        return self._propagator.extract(carrier, context=Context())

    def text_of_current(self) -> str | None:
        """Return the ``traceparent`` of the present span."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get(_KEY)

    def links_to(self, text: str | None) -> list[Link]:
        """Return a link to the span that a ``traceparent`` names."""
        context = trace.get_current_span(self.context_of(text)).get_span_context()
        return [trace.Link(context)] if context.is_valid else []

    @contextmanager
    def within(self, text: str | None) -> Iterator[None]:
        """Have spans of the block be below the one that a ``traceparent`` names."""
        token = attach(self.context_of(text))
        try:
            yield
        finally:
            detach(token)
