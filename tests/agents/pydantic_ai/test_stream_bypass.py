"""The server's own capabilities cost the events of an agent nothing."""

from __future__ import annotations

from typing import Any

from pydantic_ai.capabilities import CombinedCapability

from unpause.agents.pydantic_ai.gate import CallGate
from unpause.agents.pydantic_ai.stream_bypass import StreamBypass
from unpause.agents.pydantic_ai.toolset import JournalCapability


def test_no_event_passes_the_capabilities_of_a_segment() -> None:
    stream: Any = object()
    context: Any = None

    assert issubclass(CallGate, StreamBypass)
    assert issubclass(JournalCapability, StreamBypass)
    assert StreamBypass().wrap_run_event_stream(context, stream=stream) is stream


def test_no_capability_of_a_segment_has_model_requests_streamed() -> None:
    assert not CombinedCapability([StreamBypass()]).has_wrap_run_event_stream
