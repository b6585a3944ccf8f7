"""A driver whose one answer makes the calls a test names, pauses for them, and then runs what it may."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

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
)
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import CallStatus, Outcome


def need(call_id: str, kind: str = "confirmation", **more: Any) -> RequirementRequest:  # noqa: ANN401 - any field of RequirementRequest
    """Return what one call waits for."""
    return replace(RequirementRequest(call_id, RequirementKind(kind)), **more)


@dataclass
class PausingDriver(Toolless):
    """Pauses once for ``required``; each call is of the tool ``tool-<call id>`` with arguments ``{"of": call id}``.

    When it is continued it runs the calls that are not settled (noted in ``executed`` with their arguments) and
    completes with JSON: what each call said, and what the user said meanwhile.
    """

    required: tuple[RequirementRequest, ...]
    executed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    agent_id: str = "pausing"
    agent_name: str = "pausing"
    model_name: str = "pausing-1"
    model_provider: str = "tests"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Pause, or run what is left and complete."""
        if not segment.messages:
            calls = [ProposedCall(want.call_id, f"tool-{want.call_id}", {"of": want.call_id}) for want in self.required]
            journal.record_turn([NewMessage({"asked": True}, ())], calls)
            return Paused(self.required)
        results: dict[str, str | None] = {}
        for call in segment.calls:
            results[call.tool_call_id] = call.result_text
            if call.status is not CallStatus.FINISHED:
                await journal.start_call(call.tool_call_id, idempotent=False)
                self.executed.append((call.tool_name, call.tool_args))
                await journal.finish_call(call.tool_call_id, CallResult(Outcome.SUCCESS, "ran", "ran"))
                results[call.tool_call_id] = "ran"
        sent = [provided.prompt for provided in segment.inputs]
        journal.record_turn([NewMessage({"done": True}, ())], [])
        return Completed(json.dumps({"results": results, "said": sent}))
