"""How a segment goes on in the middle of a turn: what becomes of each call of the model's last answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.tools import DeferredToolResults, ToolApproved, ToolDenied

from unpause.agents.pydantic_ai.results import recorded_end
from unpause.domain.runs import CallKind, CallStatus, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_ai.messages import ModelMessage

    from unpause.domain.runs import ToolCall


@dataclass(kw_only=True)
class TurnResults(DeferredToolResults):
    """The results of the turn's calls; those ``undecided`` run as calls that the model has just made.

    The framework asks for a result of each, and takes every other one that is to run for approved. The agent's own
    hooks, which are called before the journaled toolset, would be told so.
    """

    undecided: set[str] = field(default_factory=set)

    def to_tool_call_results(self) -> dict[str, Any]:
        """Return the results as the framework takes them: None for a call without one."""
        return {**super().to_tool_call_results(), **cast("dict[str, Any]", dict.fromkeys(self.undecided))}


def results_of_turn(messages: Sequence[ModelMessage], calls: Mapping[str, ToolCall]) -> TurnResults | None:
    """Return a result for every call of the last answer, so that the loop goes on exactly there.

    Calls that ran have theirs, whether the agent still has their tools or not. All others are let through: to the
    journaled toolset, which knows what is permitted and what ran, or where they carry the agent's answer, to be taken
    as that.
    """
    if not messages or not isinstance(messages[-1], ModelResponse):
        return None
    made = [part.tool_call_id for part in messages[-1].parts if isinstance(part, ToolCallPart)]
    if not made:
        return None
    results = TurnResults()
    for call_id in made:
        _add(results, call_id, calls.get(call_id))
    return results


def _add(results: TurnResults, call_id: str, call: ToolCall | None) -> None:
    required = None if call is None else call.requirement
    if call is not None and call.kind is CallKind.OUTPUT:
        results.approvals[call_id] = ToolApproved()
    elif call is not None and call.status is CallStatus.FINISHED and not call.is_unprocessed:
        if call.outcome is Outcome.DENIED:
            results.approvals[call_id] = ToolDenied(call.result_text or "")
        else:
            results.calls[call_id] = recorded_end(call)
    elif call is None or required is None or required.is_granted:
        results.undecided.add(call_id)
    else:
        results.approvals[call_id] = ToolApproved(override_args=call.tool_args)
        if required.metadata is not None:
            results.metadata[call_id] = required.metadata
