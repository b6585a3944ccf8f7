"""Turns Pydantic AI's deferred calls into requests for requirements."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic_ai.exceptions import ToolFailed
from pydantic_core import to_json, to_jsonable_python

from unpause.agents.driver import RequirementRequest
from unpause.agents.pydantic_ai.forms import fields_of
from unpause.domain.deciders import Deciders
from unpause.domain.requirements import OnExpire, RequirementKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
    from pydantic_ai.tools import ToolDefinition

    from unpause.agents.policy import ToolPolicies, ToolPolicy
    from unpause.domain.requirements import Requirement

# Of the metadata that a tool gives with ApprovalRequired or CallDeferred: it is part of the run, its events and
# messages. The messages of a nested agent have to fit in.
MAX_METADATA_BYTES = 256 * 1024


class SegmentPaused(Exception):
    """Leaves the agent loop with the calls that wait for a human; ``tools`` are as their authors wrote them."""

    def __init__(self, waiting: Sequence[WaitingCall] = (), tools: Mapping[str, ToolDefinition] | None = None) -> None:
        super().__init__("the segment waits for a human")
        self.waiting = waiting
        self.tools = tools or {}


@dataclass(frozen=True, slots=True)
class WaitingCall:
    """A call that waits, with the arguments that are shown.

    ``kind`` is the framework's: ``approval``, ``external`` or ``question``. ``message`` is the reason why it is decided
    again. One with an ``earlier`` requirement is decided again as it is, under the rules of that: nobody fills in or
    changes anything any more. ``expires_in`` is how many seconds the agent's own handler waits; after that it is a no.
    """

    call_id: str
    tool_name: str
    arguments: dict[str, Any]
    kind: str
    metadata: Mapping[str, Any] | None = None
    message: str | None = None
    earlier: Requirement | None = None
    expires_in: float | None = None


def explain_filled_in(tool_name: str, requirement: Requirement) -> str:
    """Return why an approved call is approved again."""
    names = ", ".join(field.name for field in requirement.fields if field.open)
    return (
        f"What {tool_name} needs ({names}) was filled in after it was approved: "
        "it runs once an administrator has approved it as it is now."
    )


def explain_withheld(tool_name: str) -> str:
    """Return why a call waits that has run: the agent's own code asks before anybody gets what it gave."""
    return (
        f"{tool_name} has run and does not run again: confirm to let the model have its result, "
        "or reject it with a note for the model in its place."
    )


def explain_unavailable(tool_name: str, reason: str, *, in_doubt: bool) -> str:
    """Return why an approved call waits again; one ``in_doubt`` may have run."""
    advice = "It did not run: approve it again once the tool is back."
    if in_doubt:
        advice = "The call may already have run: confirm to run it again, or reject it with a note about what happened."
    return f"The tool {tool_name} is not available: {reason}. {advice}"


def explain_called_within(tool_name: str) -> str:
    """Return why a call does not run that another tool has made."""
    return f"{tool_name} waits for people, and was called by another tool: only calls that the model makes can wait"


def refuse_metadata(error: ApprovalRequired | CallDeferred) -> None:
    """Raise ToolFailed for a deferral whose metadata cannot be kept."""
    try:
        size = len(to_json(error.metadata))
    except ValueError:
        raise ToolFailed(f"The metadata of {type(error).__name__} is not JSON") from None
    if size > MAX_METADATA_BYTES:
        raise ToolFailed(f"The metadata of {type(error).__name__} has {size} bytes, more than {MAX_METADATA_BYTES}")


def request_of(call: WaitingCall, tool: ToolDefinition | None, policies: ToolPolicies) -> RequirementRequest:
    """Return what a call waits for."""
    if call.earlier is not None:
        # Its tool, and so its policy, may not be there now.
        return RequirementRequest.again(call.call_id, call.earlier, call.message)
    rules = policies.get(call.tool_name, tool.metadata if tool is not None else None)
    if call.kind != "approval":
        request = _request(call, RequirementKind.EXTERNAL_EXECUTION, rules.for_external_execution())
        return replace(request, question=call.kind == "question")
    if tool is None:
        return _request(call, RequirementKind.CONFIRMATION, rules)
    kind = RequirementKind.USER_INPUT if rules.user_input else RequirementKind.CONFIRMATION
    request = replace(_request(call, kind, rules), fields=fields_of(tool, rules, call.arguments))
    # People have seen the tool and its arguments, and nothing else that may be different the next time.
    is_plain = call.metadata is None and call.message is None
    return replace(request, remember=rules.remember) if is_plain else request


def requests_of(paused: SegmentPaused, policies: ToolPolicies) -> tuple[RequirementRequest, ...]:
    """Return what each call waits for."""
    return tuple(request_of(call, paused.tools.get(call.tool_name), policies) for call in paused.waiting)


def _request(call: WaitingCall, kind: RequirementKind, rules: ToolPolicy) -> RequirementRequest:
    if rules.expires_in is None and call.expires_in is not None:
        rules = replace(rules, expires_in=call.expires_in, on_expire=OnExpire.REJECT)
    return RequirementRequest(
        call.call_id,
        kind,
        editable=rules.editable,
        approval=rules.approval,
        expires_in=rules.expires_in,
        on_expire=rules.on_expire,
        deciders=_deciders(rules),
        message=call.message,
        metadata=None if call.metadata is None else to_jsonable_python(call.metadata),
    )


def _deciders(rules: ToolPolicy) -> Deciders | None:
    deciders = Deciders(rules.four_eyes, rules.approvers, rules.quorum)
    return None if deciders == Deciders() else deciders
