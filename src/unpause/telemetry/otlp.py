"""OpenTelemetry's exporter of spans over HTTP, for the whole process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import set_tracer_provider

if TYPE_CHECKING:
    from collections.abc import Mapping


def make_provider(described: Mapping[str, str]) -> TracerProvider:
    """Return what makes and sends spans of the process that is described so; it is also what libraries use."""
    provider = TracerProvider(resource=Resource.create(described))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Libraries such as Pydantic AI take it from there.
    set_tracer_provider(provider)
    return provider
