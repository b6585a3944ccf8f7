"""Keeps a capability out of the event streams of its agent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import AbstractCapability

if TYPE_CHECKING:
    from collections.abc import AsyncIterable

    from pydantic_ai.messages import AgentStreamEvent
    from pydantic_ai.tools import RunContext


class StreamBypass(AbstractCapability[Any]):
    """A capability that no event passes: the framework's own hook is a generator around every stream."""

    def wrap_run_event_stream(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        *,
        stream: AsyncIterable[AgentStreamEvent],
    ) -> AsyncIterable[AgentStreamEvent]:
        """Return the stream as it is."""
        return stream

    @property
    def has_wrap_run_event_stream(self) -> bool:
        """Whether model requests have to be streamed for this capability: they do not."""
        return False
