"""A driver without any framework: every message pauses for one confirmation, then answers with what the tool said."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from tests.support.toolless import Toolless
from unpause.agents.driver import (
    CallResult,
    Completed,
    Journal,
    NewMessage,
    Paused,
    ProposedCall,
    RequirementRequest,
    Segment,
    SegmentEnd,
    ToolDescription,
)
from unpause.domain.events import EventType
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import CallStatus, Outcome, TranscriptEntry

_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class ScriptedDriver(Toolless):
    """Implements ``agents.driver.AgentDriver``: ``tool`` is called with the prompt once the call is confirmed."""

    def list_tools(self) -> list[ToolDescription]:
        """Return the one tool."""
        return [ToolDescription("act", None, {}, requires_confirmation=True)]

    def __init__(self, tool: Callable[[str], str] = lambda prompt: f"did {prompt}", agent_id: str = "scripted") -> None:
        self.agent_id = agent_id
        self.agent_name = agent_id
        self.model_name = "scripted-1"
        self.model_provider = "tests"
        self._tool = tool

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Pause before the one call; after it complete."""
        if not segment.calls:
            return await self._ask(segment, journal)
        call = segment.calls[-1]
        if call.status is not CallStatus.FINISHED:
            await journal.start_call(call.tool_call_id, idempotent=False)
            sent = self._tool(segment.run.prompt)
            await journal.finish_call(call.tool_call_id, CallResult(Outcome.SUCCESS, sent, sent))
        else:
            sent = call.result_text or ""
        await journal.emit(EventType.MODEL_REQUEST_STARTED)
        await journal.emit(EventType.CONTENT_DELTA, {"content": sent})
        await journal.emit(EventType.MODEL_REQUEST_COMPLETED)
        journal.record_turn([_said("assistant", sent)], [])
        await journal.emit(EventType.CONTENT_COMPLETED)
        return Completed(sent)

    async def _ask(self, segment: Segment, journal: Journal) -> SegmentEnd:
        call_id = f"call-{segment.run.id}"
        await journal.emit(EventType.MODEL_REQUEST_STARTED)
        await journal.emit(EventType.MODEL_REQUEST_COMPLETED)
        journal.record_turn(
            [_said("user", segment.run.prompt), _said("assistant", None)],
            [ProposedCall(call_id, "act", {"on": segment.run.prompt})],
        )
        await journal.emit(EventType.CONTENT_COMPLETED)
        return Paused((RequirementRequest(call_id, RequirementKind.CONFIRMATION),))


def _said(role: str, text: str | None) -> NewMessage:
    return NewMessage({"role": role, "text": text}, (TranscriptEntry(f"{role}-1", role, text, _LONG_AGO),))
