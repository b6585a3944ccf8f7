"""What people were shown of a segment's calls, and whether a call that was decided still is what they saw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_ai.exceptions import ToolFailed

from unpause.agents.containment import describe_error
from unpause.agents.pydantic_ai.arguments import (
    Misfit,
    ShownCall,
    explain_change,
    explain_refusal,
    read_arguments,
    show,
)
from unpause.agents.pydantic_ai.deferred import explain_unavailable
from unpause.domain.runs import CallKind, CallStatus

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_ai.messages import ToolCallPart
    from pydantic_ai.tools import ToolApproved, ToolDefinition

    from unpause.agents.driver import Journal
    from unpause.agents.policy import ToolPolicy
    from unpause.agents.pydantic_ai.arguments import Validation
    from unpause.agents.redaction import Redaction
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import ToolCall

_LONGEST_REASON = 300


class ShownCalls:
    """The calls of one segment as they are shown.

    ``recorded`` are the calls of earlier segments, ``arguments`` what is shown of each call, ``granted`` those that the
    agent's own handlers approved. A call in ``questions`` has to be decided again, for the reason there; one in
    ``repeated`` as it is, with nothing to fill in, under the rules of the requirement there.
    """

    def __init__(
        self,
        journal: Journal,
        recorded: Mapping[str, ToolCall],
        arguments: dict[str, dict[str, Any]],
        redaction: Redaction,
    ) -> None:
        self.recorded = recorded
        self.arguments = arguments
        self.questions: dict[str, str] = {}
        self.repeated: dict[str, Requirement] = {}
        self.granted: dict[str, ToolApproved] = {}
        self._journal = journal
        self._redaction = redaction
        self._shown: dict[str, ShownCall] = {}

    def permits(self, call_id: str) -> bool:
        """Whether exactly this call was approved: by people, or by the agent's own handler."""
        if call_id in self.granted:
            return True
        call = self.recorded.get(call_id)
        return call is not None and call.requirement is not None and call.requirement.permits

    def find_decided(self, call_id: str, rules: ToolPolicy) -> ShownCall | None:
        """Return what was shown of a call that was decided or has started; None where nothing binds it yet."""
        granted = self.granted.get(call_id)
        if granted is not None:
            return self._shown.get(call_id) if granted.override_args is None else None
        call = self.recorded.get(call_id)
        if call is None or not (self.permits(call_id) or call.status is CallStatus.STARTED):
            return None
        answer = call.requirement.answer if call.requirement is not None else None
        values = (answer.values if answer is not None else None) or {}
        sent = call.tool_args if call.sent_args is None else call.sent_args
        return ShownCall(call.tool_args, sent, values, rules.user_input)

    def take_if_as_shown(
        self,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        shown: ShownCall,
        original: dict[str, Any],
        validation: Validation,
    ) -> bool:
        """Whether validation gives the arguments that were shown; then they are recorded, as those that run."""
        if validation.arguments is None:
            return False
        runs = show(validation.arguments, original, properties_of(tool_def))
        if shown.find_changes(runs):
            return False
        kept = {name: value for name, value in shown.arguments.items() if name in shown.filled_in}
        self.show(call.tool_call_id, {**runs, **kept}, original)
        return True

    def decide_again(
        self, call: ToolCallPart, tool_def: ToolDefinition, shown: ShownCall, validation: Validation
    ) -> None:
        """Record why the call does not run; raise the tool's error for the model where people can change nothing."""
        error = validation.error
        if validation.arguments is not None:
            now = show(validation.arguments, shown.original, properties_of(tool_def))
            message = explain_change(call.tool_name, shown.arguments, now, shown.filled_in)
            now = {name: value for name, value in now.items() if name not in shown.filled_in}
            sent = {name: value for name, value in shown.original.items() if name not in shown.filled_in}
            self.show(call.tool_call_id, now, sent)
        elif error is not None and (shown.values or isinstance(error, ValidationError | Misfit)):
            message = explain_refusal(call.tool_name, error, shown.values)
            self._show_as_before(call.tool_call_id)
        else:
            # The tool's own message for its model.
            raise error or ToolFailed(f"{call.tool_name} cannot run")
        self.ask_again(call.tool_call_id, message)

    def ask_again(self, call_id: str, message: str) -> None:
        """Have people decide a call once more; ``message`` is the reason, without values that a human filled in.

        The call does not run when its turn comes: it pauses the segment with the others that wait.
        """
        self.questions[call_id] = self._redaction.hide(message)

    def find_unrun(self) -> list[ToolCall]:
        """Return the calls that people approved in earlier segments and that have not run."""
        calls = self.recorded.values()
        return [call for call in calls if call.status is not CallStatus.FINISHED and self.permits(call.tool_call_id)]

    def list_missing(self, tools: Collection[str]) -> set[str]:
        """Return the names of tools that these calls need and that are not among the agent's ``tools``."""
        needed = [*self.find_unrun(), *(call for call in self.recorded.values() if call.is_unprocessed)]
        return {call.tool_name for call in needed if call.kind is CallKind.TOOL}.difference(tools)

    def put_back(self, call: ToolCall, error: BaseException | str, *, in_doubt: bool = False) -> None:
        """Have people approve a call once more, as it is: its tool cannot be reached now."""
        call_id, required = call.tool_call_id, call.requirement
        if required is None:
            return
        if required.answer is not None and required.answer.values:
            # They are a part of it, and the next answer does not bring them.
            sent = call.tool_args if call.sent_args is None else call.sent_args
            self.show(call_id, call.tool_args, {**sent, **required.answer.values})
        reason = error if isinstance(error, str) else self._redaction.clean(_innermost(error))
        # An idempotent one that was cut off was to run again without a question.
        in_doubt = in_doubt or required.in_doubt or call.status is CallStatus.STARTED
        self.repeated[call_id] = replace(required, in_doubt=in_doubt)
        reason = reason[:_LONGEST_REASON].rstrip(". \n")
        self.ask_again(call_id, explain_unavailable(call.tool_name, reason, in_doubt=in_doubt))

    def was_explained(self, call: ToolCallPart, shown: ShownCall, misfit: Misfit) -> bool:
        """Whether people have decided the call since they were told of this: then its tool has the last word."""
        recorded = self.recorded.get(call.tool_call_id)
        message = self._redaction.hide(explain_refusal(call.tool_name, misfit, shown.values))
        return recorded is not None and recorded.requirement is not None and recorded.requirement.message == message

    def _show_as_before(self, call_id: str) -> None:
        """Show a call without the values that its tool refused."""
        call = self.recorded.get(call_id)
        if call is not None and call.requirement is not None:
            self.show(call_id, call.requirement.tool_args, call.sent_args or call.requirement.tool_args)

    def sent_by_model(self, call_id: str, args: str | dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that the model sent; a handler of the agent may have replaced them since."""
        earlier = self._shown.get(call_id)
        if earlier is not None and call_id in self.granted:
            return earlier.sent
        return read_arguments(args)

    def show(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        """Show these arguments of a call, made of those that were ``sent``."""
        self._shown[call_id] = ShownCall(arguments, sent)
        self.arguments[call_id] = arguments
        self._journal.show_call(call_id, arguments, sent)


def _innermost(error: BaseException) -> str:
    """Return the message of an error; of a group, which says nothing itself, that of its first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return describe_error(error)


def properties_of(tool_def: ToolDefinition) -> Mapping[str, Any]:
    """Return the parameters of a tool as its model sees them."""
    properties: Mapping[str, Any] = tool_def.parameters_json_schema.get("properties", {})
    return properties
