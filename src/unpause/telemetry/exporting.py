"""Sends the spans of a process to an OpenTelemetry collector, as its own ``OTEL_…`` variables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.nodes import node_name
from unpause.errors import InvalidSetting
from unpause.telemetry.tracing import disable_tracing, enable_tracing
from unpause.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider


def start_tracing() -> None:
    """Trace from here on; raise InvalidSetting where OpenTelemetry is not installed."""
    try:
        # Here: the extra `otel`.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace import set_tracer_provider  # noqa: PLC0415
    except ImportError:
        raise InvalidSetting("--traces needs OpenTelemetry: pip install 'unpause[otel]'") from None
    described = {"service.name": "unpause", "service.version": VERSION, "service.instance.id": node_name()}
    provider = TracerProvider(resource=Resource.create(described))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    # Libraries such as Pydantic AI take it from there.
    set_tracer_provider(provider)
    enable_tracing(provider)
    _Started.provider = provider


class _Started:
    """What ``start_tracing`` has started in this process."""

    provider: TracerProvider | None = None


def stop_tracing() -> None:
    """Send what is left, and trace no more; nothing where nothing was started."""
    provider, _Started.provider = _Started.provider, None
    if provider is not None:
        disable_tracing()
        provider.shutdown()
