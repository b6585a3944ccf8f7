"""Sends the spans of a process to an OpenTelemetry collector, as its own ``OTEL_…`` variables say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.nodes import node_name
from unpause.errors import InvalidSetting
from unpause.lazy import LazyModule
from unpause.telemetry.tracing import disable_tracing, enable_tracing
from unpause.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from unpause.telemetry import otel, otlp
else:
    otel = LazyModule("unpause.telemetry.otel")
    otlp = LazyModule("unpause.telemetry.otlp")


def start_tracing() -> None:
    """Trace from here on; raise InvalidSetting where OpenTelemetry is not installed."""
    try:
        # The extra `otel`.
        make_provider, open_telemetry = otlp.make_provider, otel.OpenTelemetry
    except ImportError:
        raise InvalidSetting("--traces needs OpenTelemetry: pip install 'unpause[otel]'") from None
    described = {"service.name": "unpause", "service.version": VERSION, "service.instance.id": node_name()}
    _Started.provider = make_provider(described)
    enable_tracing(open_telemetry(_Started.provider))


class _Started:
    """What ``start_tracing`` has started in this process."""

    provider: TracerProvider | None = None


def stop_tracing() -> None:
    """Send what is left, and trace no more; nothing where nothing was started."""
    provider, _Started.provider = _Started.provider, None
    if provider is not None:
        disable_tracing()
        provider.shutdown()
