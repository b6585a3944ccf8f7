"""Lets a tool call run only as it was shown, and decides who is asked about it: the agent's own handlers, or people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, ModelRetry, SkipToolValidation, ToolFailed
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.tools import (
    DeferredToolRequests,
    DeferredToolResults,
    RunContext,
    ToolApproved,
    ToolDefinition,
    ToolDenied,
)
from pydantic_core import to_json

from unpause.agents.driver import OwnDecision
from unpause.agents.pydantic_ai.arguments import (
    ShownCall,
    Validation,
    explain_change,
    explain_refusal,
    read_arguments,
    show,
    show_unfilled,
)
from unpause.agents.pydantic_ai.deferred import SegmentPaused, WaitingCall, explain_filled_in, refuse_metadata
from unpause.agents.pydantic_ai.model_output import NOT_KEPT, TOO_DEEP
from unpause.domain.requirements import Decision
from unpause.domain.runs import CallStatus, ToolCall

if TYPE_CHECKING:
    from pydantic_ai.toolsets import ToolsetTool

    from unpause.agents.driver import Journal
    from unpause.agents.policy import ToolPolicies, ToolPolicy
    from unpause.agents.redaction import Redaction

_Handler = Callable[[str | dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass
class CallGate(AbstractCapability[Any]):
    """The outermost capability of a segment: what it is given is what every other one has made of a call.

    ``recorded`` are the calls of earlier segments, ``held`` those that wait for nothing but the next segment, and
    ``arguments`` what is shown of each call. A call in ``questions`` has to be decided again, for the reason there; one
    in ``complete`` as it is, with nothing left to fill in.
    """

    journal: Journal
    recorded: Mapping[str, ToolCall]
    arguments: dict[str, dict[str, Any]]
    redaction: Redaction
    policies: ToolPolicies
    originals: dict[str, ToolsetTool[Any]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    questions: dict[str, str] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    waiting: dict[str, WaitingCall] = field(default_factory=dict)
    _shown: dict[str, ShownCall] = field(default_factory=dict)
    _seen: dict[str, Any] = field(default_factory=dict)
    _granted: dict[str, ToolApproved] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)
    _asks_agent: bool = False

    def get_ordering(self) -> CapabilityOrdering:
        """Return that this one comes before all others, be they outermost or not."""
        return CapabilityOrdering(position="outermost", wraps=[AbstractCapability])

    # ------------------------------------------------------------------ what runs is what was shown

    async def after_tool_validate(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002 - part of the hook
        args: dict[str, Any],
    ) -> dict[str, Any]:
        """Remember the arguments of a call that is deferred after this: who defers it does not say them."""
        self._seen[call.tool_call_id] = args
        return args

    async def wrap_tool_validate(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: str | dict[str, Any],
        handler: _Handler,
    ) -> dict[str, Any]:
        """Have the arguments shown that validation gives, or give those that were shown of a call that is decided."""
        call_id = call.tool_call_id
        recorded = self.recorded.get(call_id)
        if recorded is not None and recorded.status is CallStatus.FINISHED:
            raise SkipToolValidation(recorded.tool_args)
        if recorded is not None and recorded.requirement is not None and recorded.requirement.is_changed_since_approval:
            self.ask_again(call_id, explain_filled_in(call.tool_name, recorded.requirement))
            self.complete.add(call_id)
            raise SkipToolValidation(recorded.tool_args)
        rules = self.rules_of(tool_def)
        if rules.user_input and not self.permits(call_id):
            if call.args == NOT_KEPT:
                raise ModelRetry(TOO_DEEP)
            sent = {name: value for name, value in read_arguments(args).items() if name not in rules.user_input}
            tool = self.originals[call.tool_name]
            self._show(call_id, show_unfilled(tool, sent, rules.user_input, ctx.validation_context), sent)
            raise SkipToolValidation(self.arguments[call_id])
        shown = self._decided(call_id, rules)
        if shown is not None:
            return await self._validate_as_shown(call, tool_def, shown, handler)
        validation = await self._validate(call, args, handler)
        if validation.error is None or validation.arguments is not None:
            sent = self._sent(call_id, args)
            self._show(call_id, show(validation.arguments, sent, _properties(tool_def)), sent)
        return validation.take()

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002 - part of the hook
        args: dict[str, Any],
        handler: Callable[[dict[str, Any]], Awaitable[Any]],
    ) -> Any:  # noqa: ANN401 - whatever the tool returns
        """Keep a call that has to be decided again from everything that would come before the tool."""
        if call.tool_call_id in self.questions:
            error: ApprovalRequired | CallDeferred = ApprovalRequired()
            self._note_deferral(call, error)
            raise error
        try:
            return await handler(args)
        except (ApprovalRequired, CallDeferred) as error:
            refuse_metadata(error)
            self._note_deferral(call, error)
            raise

    def rules_of(self, tool: ToolDefinition) -> ToolPolicy:
        """Return the policy of the tool."""
        return self.policies.get(tool.name, tool.metadata)

    def permits(self, call_id: str) -> bool:
        """Whether somebody has said yes to exactly this call: a human, or the agent's own handler."""
        if call_id in self._granted:
            return True
        call = self.recorded.get(call_id)
        return call is not None and call.requirement is not None and call.requirement.permits

    def _decided(self, call_id: str, rules: ToolPolicy) -> ShownCall | None:
        """Return what was shown of a call that was decided or has started; None where nothing binds it yet."""
        granted = self._granted.get(call_id)
        if granted is not None:
            return self._shown.get(call_id) if granted.override_args is None else None
        call = self.recorded.get(call_id)
        if call is None or not (self.permits(call_id) or call.status is CallStatus.STARTED):
            return None
        answer = call.requirement.answer if call.requirement is not None else None
        values = (answer.values if answer is not None else None) or {}
        sent = call.tool_args if call.sent_args is None else call.sent_args
        return ShownCall(call.tool_args, sent, values, rules.user_input)

    async def _validate_as_shown(
        self, call: ToolCallPart, tool_def: ToolDefinition, shown: ShownCall, handler: _Handler
    ) -> dict[str, Any]:
        """Return the arguments of the decided call; where they cannot be had, have people decide it again."""
        first = await self._validate(call, to_json(shown.given).decode(), handler)
        if self._is_as_shown(call, tool_def, shown, shown.given, first):
            return first.take()
        # An author's own verdict is not asked for twice.
        if not isinstance(first.error, ModelRetry | ToolFailed):
            changed = set(shown.arguments)
            if first.arguments is not None:
                changed = shown.find_changes(show(first.arguments, shown.given, _properties(tool_def)))
            read_back = shown.read_back(changed)
            if read_back is not None:
                second = await self._validate(call, to_json(read_back).decode(), handler)
                if self._is_as_shown(call, tool_def, shown, read_back, second):
                    return second.take()
        self._decide_again(call, tool_def, shown, first)
        raise SkipToolValidation(shown.arguments)

    def _is_as_shown(
        self,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        shown: ShownCall,
        given: dict[str, Any],
        validation: Validation,
    ) -> bool:
        """Whether validation gives the arguments that were shown; then they are noted, as those that run."""
        if validation.arguments is None:
            return False
        runs = show(validation.arguments, given, _properties(tool_def))
        if shown.find_changes(runs):
            return False
        kept = {name: value for name, value in shown.arguments.items() if name in shown.filled_in}
        self._show(call.tool_call_id, {**runs, **kept}, given)
        return True

    def _decide_again(
        self, call: ToolCallPart, tool_def: ToolDefinition, shown: ShownCall, validation: Validation
    ) -> None:
        """Note why the call does not run; raise what tells the model so, where people cannot change anything."""
        error = validation.error
        if validation.arguments is not None:
            now = show(validation.arguments, shown.given, _properties(tool_def))
            message = explain_change(call.tool_name, shown.arguments, now, shown.filled_in)
            now = {name: value for name, value in now.items() if name not in shown.filled_in}
            sent = {name: value for name, value in shown.given.items() if name not in shown.filled_in}
            self._show(call.tool_call_id, now, sent)
        elif error is not None and (shown.values or isinstance(error, ValidationError)):
            message = explain_refusal(call.tool_name, error, shown.values)
            self._show_as_before(call.tool_call_id)
        else:
            # The tool's own words for its model.
            raise error or ToolFailed(f"{call.tool_name} cannot run")
        self.ask_again(call.tool_call_id, message)

    def ask_again(self, call_id: str, message: str) -> None:
        """Have people decide a call once more; ``message`` says why, and repeats no value that a human filled in.

        Takes effect where the call would run next: it does not, and pauses the segment with the others that wait.
        """
        self.questions[call_id] = self.redaction.hide(message)

    def _show_as_before(self, call_id: str) -> None:
        """Show a call without the values that its tool refused."""
        call = self.recorded.get(call_id)
        if call is not None and call.requirement is not None:
            self._show(call_id, call.requirement.tool_args, call.sent_args or call.requirement.tool_args)

    async def _validate(self, call: ToolCallPart, args: str | dict[str, Any], handler: _Handler) -> Validation:
        """Return what validation says, but for errors that are none of the call's."""
        self._seen.pop(call.tool_call_id, None)
        try:
            return Validation(await handler(args))
        except (ValidationError, ModelRetry, ToolFailed) as error:
            return Validation(None, error)
        except Exception as error:
            # A deferral, from whoever validates: the framework wraps it together with the arguments, or a capability
            # around the others raises it bare. The same with SkipToolValidation, which is arguments and nothing else.
            deferral = getattr(error, "deferral", error)
            if isinstance(deferral, ApprovalRequired | CallDeferred):
                refuse_metadata(deferral)
                self._note_deferral(call, deferral)
                return Validation(getattr(error, "validated_args", self._seen.get(call.tool_call_id)), error)
            if isinstance(error, SkipToolValidation):
                return Validation(error.validated_args, error)
            raise

    def _sent(self, call_id: str, args: str | dict[str, Any]) -> dict[str, Any]:
        """Return what the model sent; what its handler put in the place of that is not."""
        earlier = self._shown.get(call_id)
        if earlier is not None and call_id in self._granted:
            return earlier.sent
        return read_arguments(args)

    def _show(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        self._shown[call_id] = ShownCall(arguments, sent)
        self.arguments[call_id] = arguments
        self.journal.show_call(call_id, arguments, sent)

    # ------------------------------------------------------------------ who decides

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Leave the agent loop with what waits for people: that waits in the database, not in memory.

        Before that the agent's own handlers are asked about the calls that nobody else has to decide, once each.
        """
        if self._asks_agent:
            return None
        metadata = requests.metadata
        for call in requests.approvals:
            if call.tool_call_id not in self.held:
                self._wait(call, "approval", metadata.get(call.tool_call_id))
        for call in requests.calls:
            self._wait(call, requests.kind(call.tool_call_id), metadata.get(call.tool_call_id))
        results = await self._ask_agent(ctx, requests)
        if results is None:
            raise self.paused()
        # What is left is for people: without this the framework offers it to the handlers once more. Whoever drives
        # the loop pauses before the model is asked again.
        requests.approvals = [call for call in requests.approvals if call.tool_call_id in results.approvals]
        requests.calls = [call for call in requests.calls if call.tool_call_id in results.calls]
        return results

    def paused(self) -> SegmentPaused:
        """Return the way out of the loop, with everything that waits for people."""
        return SegmentPaused(
            tuple(self.waiting.values()), {name: tool.tool_def for name, tool in self.originals.items()}
        )

    async def _ask_agent(self, ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults | None:
        """Return what the agent's handlers decide of what they may; None where that is nothing."""
        asked = replace(
            requests,
            approvals=[call for call in requests.approvals if self._may_decide(call)],
            calls=[call for call in requests.calls if self._may_decide(call)],
        )
        root = ctx.tool_manager.root_capability if ctx.tool_manager is not None else None
        if root is None or not (asked.approvals or asked.calls):
            return None
        self._asked.update(call.tool_call_id for call in (*asked.approvals, *asked.calls))
        self._asks_agent = True
        try:
            given = await root.handle_deferred_tool_calls(ctx, requests=asked)
        finally:
            self._asks_agent = False
        return None if given is None else self._take(asked, given)

    def _may_decide(self, call: ToolCallPart) -> bool:
        call_id = call.tool_call_id
        tool = self.originals.get(call.tool_name)
        if call_id in self.held or call_id in self._asked or call_id in self.questions or tool is None:
            return False
        earlier = self.recorded.get(call_id)
        if earlier is not None and earlier.requirement is not None:
            # People were asked about it before, and are asked again.
            return False
        return not self.rules_of(tool.tool_def).asks_people

    def _take(self, asked: DeferredToolRequests, given: DeferredToolResults) -> DeferredToolResults | None:
        """Note what the handlers decided; return it without what they were not asked."""
        approvals = {call.tool_call_id for call in asked.approvals}
        calls = {call.tool_call_id for call in asked.calls}
        taken = DeferredToolResults(
            approvals={key: value for key, value in given.approvals.items() if key in approvals},
            calls={key: value for key, value in given.calls.items() if key in calls},
            metadata=given.metadata,
            answered_by=given.answered_by,
        )
        for call_id, result in taken.to_tool_call_results().items():
            decision, note = Decision.ANSWERED, None
            if isinstance(result, ToolApproved):
                decision = Decision.CONFIRMED
                self._granted[call_id] = result
            elif isinstance(result, ToolDenied):
                decision, note = Decision.REJECTED, result.message
            del self.waiting[call_id]
            self.journal.record_own_decision(
                call_id, OwnDecision(decision, by=taken.answered_by.get(call_id), note=note)
            )
        return taken if taken.approvals or taken.calls else None

    def _note_deferral(self, call: ToolCallPart, error: ApprovalRequired | CallDeferred) -> None:
        """Remember that a call which the agent let run waits after all: the framework has nobody left to tell."""
        if call.tool_call_id in self._granted and call.tool_call_id not in self.held:
            kind = "approval" if isinstance(error, ApprovalRequired) else error.kind
            self._wait(call, kind, error.metadata)

    def _wait(self, call: ToolCallPart, kind: str, metadata: Mapping[str, Any] | None) -> None:
        call_id = call.tool_call_id
        earlier = self.recorded.get(call_id)
        if metadata is None and call_id in self.questions and earlier is not None and earlier.requirement is not None:
            # It is the same question once more.
            metadata = earlier.requirement.metadata
        self.waiting[call_id] = WaitingCall(
            call_id,
            call.tool_name,
            self.arguments.get(call_id) or call.args_as_dict(),
            kind=kind,
            metadata=metadata,
            message=self.questions.get(call_id),
            is_complete=call_id in self.complete,
        )


def _properties(tool_def: ToolDefinition) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = tool_def.parameters_json_schema.get("properties", {})
    return properties
