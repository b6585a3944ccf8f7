"""Lets a tool call run only as it was shown, and lets the agent's own handlers or people decide it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    SkipToolExecution,
    SkipToolValidation,
    ToolFailed,
)
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
from unpause.agents.pydantic_ai.arguments import ShownCall, Validation, find_misfit, read_arguments, show, show_unfilled
from unpause.agents.pydantic_ai.deferred import (
    SegmentPaused,
    WaitingCall,
    explain_called_within,
    explain_filled_in,
    explain_withheld,
    refuse_metadata,
    request_of,
)
from unpause.agents.pydantic_ai.external_events import LeftToPeople
from unpause.agents.pydantic_ai.model_output import NOT_KEPT, TOO_DEEP
from unpause.agents.pydantic_ai.shown_calls import ShownCalls, properties_of
from unpause.agents.pydantic_ai.stream_bypass import StreamBypass
from unpause.domain.requirements import Decision
from unpause.domain.runs import CallKind, CallStatus
from unpause.errors import UnpauseError

if TYPE_CHECKING:
    from pydantic_ai.toolsets import ToolsetTool

    from unpause.agents.driver import Journal, RequirementRequest
    from unpause.agents.policy import ToolPolicies, ToolPolicy
    from unpause.agents.pydantic_ai.call_ends import CallEnds
    from unpause.agents.pydantic_ai.external_events import RowWaiter

_log = structlog.get_logger(__name__)

_Handler = Callable[[str | dict[str, Any]], Awaitable[dict[str, Any]]]


@dataclass
class CallGate(StreamBypass):
    """The outermost capability of a segment: it sees what every other one has made of a call.

    ``held`` are the calls that wait for nothing but the next segment, ``waiting`` those that wait for people,
    ``granted`` those that a grant decides when they start, and ``originals`` the tools as their authors wrote them;
    ``metadata`` is what the agent's capabilities have made of theirs, and the rules are applied to that with
    ``rules_last``; ``added`` are those that capabilities have put around the journaled toolset.
    ``events`` is what the agent's own handlers wait with, ``ends`` records how calls end.
    ``resumes`` is True until the segment's first model request: calls of earlier segments run before it.
    """

    journal: Journal
    shown: ShownCalls
    policies: ToolPolicies
    events: RowWaiter
    ends: CallEnds
    held: set[str] = field(default_factory=set)
    originals: dict[str, ToolsetTool[Any]] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    added: set[str] = field(default_factory=set)
    rules_last: bool = True
    waiting: dict[str, WaitingCall] = field(default_factory=dict)
    granted: dict[str, RequirementRequest] = field(default_factory=dict)
    resumes: bool = True
    _validated: dict[str, Any] = field(default_factory=dict)
    _offered: set[str] = field(default_factory=set)
    _asks_handlers: bool = False

    @property
    def has_waiting(self) -> bool:
        """Whether some call waits, so that no model request may follow."""
        return bool(self.held or self.waiting)

    def get_ordering(self) -> CapabilityOrdering | None:
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
        """Remember the arguments of a call that may be deferred after this: a deferral does not carry them."""
        self._validated[call.tool_call_id] = args
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
        recorded = self.shown.recorded.get(call_id)
        if recorded is not None and recorded.status is CallStatus.FINISHED:
            raise SkipToolValidation(recorded.tool_args)
        if recorded is not None and recorded.requirement is not None:
            if recorded.requirement.is_changed_since_approval:
                self.shown.ask_again(call_id, explain_filled_in(call.tool_name, recorded.requirement))
                self.shown.repeated[call_id] = recorded.requirement
                raise SkipToolValidation(recorded.tool_args)
            if recorded.kind is CallKind.TOOL and call.tool_name not in self.originals:
                self.shown.put_back(recorded, "the agent does not have it now")
                raise SkipToolValidation(recorded.tool_args)
        rules = self.rules_of(tool_def)
        if rules.user_input and not self.shown.permits(call_id):
            if call.args == NOT_KEPT:
                raise ModelRetry(TOO_DEEP)
            sent = {name: value for name, value in read_arguments(args).items() if name not in rules.user_input}
            tool = self.originals[call.tool_name]
            self.shown.show(call_id, show_unfilled(tool, sent, rules.user_input, ctx.validation_context), sent)
            raise SkipToolValidation(self.shown.arguments[call_id])
        shown = self.shown.find_decided(call_id, rules)
        if shown is not None:
            return await self._validate_as_shown(call, tool_def, shown, handler)
        validation = await self._validate(call, args, handler)
        if validation.error is None or validation.arguments is not None:
            sent = self.shown.sent_by_model(call_id, args)
            self.shown.show(call_id, show(validation.arguments, sent, properties_of(tool_def)), sent)
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
        """Keep a call that has to be decided again from all that precedes the tool; record what comes of one."""
        call_id = call.tool_call_id
        if call_id in self.shown.questions:
            error: ApprovalRequired | CallDeferred = ApprovalRequired()
            self._note_deferral(call, error)
            raise error
        try:
            returned = await handler(args)
        except (ApprovalRequired, CallDeferred) as error:
            refuse_metadata(error)
            if self.ends.has_run(call_id):
                self.shown.ask_again(call_id, explain_withheld(call.tool_name))
            self._note_deferral(call, error)
            raise
        except SkipToolExecution as skip:
            skip.result = await self.ends.process(call_id, skip.result)
            raise
        except UnpauseError:
            raise
        except Exception as error:  # the boundary around an agent's hooks, which raise what they like
            self.ends.process_error(call_id, error)
            raise
        return await self.ends.process(call_id, returned)

    @contextmanager
    def reaching_tools(self) -> Iterator[None]:
        """Pause the segment where the agent's tools cannot be reached and approved calls are still to run.

        Their approvals would be spent otherwise: people approve them again once the tools are back.
        """
        try:
            yield
        except SegmentPaused:
            raise
        except Exception as error:  # the boundary around an agent's toolsets, which raise whatever their servers do
            unrun = self.shown.find_unrun() if self.resumes else []
            if not unrun:
                raise
            _log.warning("tools not available: run paused again", calls=[call.tool_call_id for call in unrun])
            for call in unrun:
                self.shown.put_back(call, error)
                self._wait(ToolCallPart(call.tool_name, call.tool_args, call.tool_call_id), "approval", None)
            raise self.paused() from error

    def rules_of(self, tool: ToolDefinition) -> ToolPolicy:
        """Return the policy of the tool."""
        return self.policies.get(tool.name, self.metadata.get(tool.name, tool.metadata))

    def _definition_of(self, tool: ToolsetTool[Any]) -> ToolDefinition:
        definition = tool.tool_def
        return replace(definition, metadata=self.metadata.get(definition.name, definition.metadata))

    async def _validate_as_shown(
        self, call: ToolCallPart, tool_def: ToolDefinition, shown: ShownCall, handler: _Handler
    ) -> dict[str, Any]:
        """Return the arguments of the decided call; where validation gives others, have people decide it again."""
        misfit = find_misfit(self.originals[call.tool_name], shown)
        if misfit is not None and not self.shown.was_explained(call, shown, misfit):
            self.shown.decide_again(call, tool_def, shown, Validation(None, misfit))
            raise SkipToolValidation(shown.arguments)
        first = await self._validate(call, to_json(shown.original).decode(), handler)
        if self.shown.take_if_as_shown(call, tool_def, shown, shown.original, first):
            return first.take()
        # An author's own verdict is final.
        if not isinstance(first.error, ModelRetry | ToolFailed):
            changed = set(shown.arguments)
            if first.arguments is not None:
                changed = shown.find_changes(show(first.arguments, shown.original, properties_of(tool_def)))
            read_back = shown.read_back(changed)
            if read_back is not None:
                second = await self._validate(call, to_json(read_back).decode(), handler)
                if self.shown.take_if_as_shown(call, tool_def, shown, read_back, second):
                    return second.take()
        self.shown.decide_again(call, tool_def, shown, first)
        raise SkipToolValidation(shown.arguments)

    async def _validate(self, call: ToolCallPart, args: str | dict[str, Any], handler: _Handler) -> Validation:
        """Return the result of validation; raise errors that are none of the call's."""
        self._validated.pop(call.tool_call_id, None)
        try:
            return Validation(await handler(args))
        except (ValidationError, ModelRetry, ToolFailed) as error:
            return Validation(None, error)
        except Exception as error:  # the boundary around a validation: deferrals come in several wrappers
            # A deferral by a validator: the framework wraps it together with the arguments, or a capability
            # around the others raises it bare. The same with SkipToolValidation, which is arguments and nothing else.
            deferral = getattr(error, "deferral", error)
            if isinstance(deferral, ApprovalRequired | CallDeferred):
                refuse_metadata(deferral)
                self._note_deferral(call, deferral)
                return Validation(getattr(error, "validated_args", self._validated.get(call.tool_call_id)), error)
            if isinstance(error, SkipToolValidation):
                return Validation(error.validated_args, error)
            raise

    # ------------------------------------------------------------------ who decides

    async def handle_deferred_tool_calls(
        self, ctx: RunContext[Any], *, requests: DeferredToolRequests
    ) -> DeferredToolResults | None:
        """Leave the agent loop with what waits for people: that waits in the database, not in memory.

        Before that the agent's own handlers may decide the calls that need no people, once each; and then grants, which
        people gave before.
        """
        if self._asks_handlers:
            return None
        metadata = requests.metadata
        for call in (*requests.approvals, *requests.calls):
            if not self.ends.knows(call.tool_call_id):
                raise ToolFailed(explain_called_within(call.tool_name))
        for call in requests.approvals:
            if call.tool_call_id not in self.held:
                self._wait(call, "approval", metadata.get(call.tool_call_id))
        for call in requests.calls:
            self._wait(call, requests.kind(call.tool_call_id), metadata.get(call.tool_call_id))
        results = await self._ask_handlers(ctx, requests)
        if granted := await self._find_granted(requests):
            results = results or DeferredToolResults()
            results.approvals.update(granted)
        if results is None:
            raise self.paused()
        # The rest is for people: without this the framework offers it to the handlers once more. The segment loop
        # pauses before the next model request.
        requests.approvals = [call for call in requests.approvals if call.tool_call_id in results.approvals]
        requests.calls = [call for call in requests.calls if call.tool_call_id in results.calls]
        return results

    def paused(self) -> SegmentPaused:
        """Return the way out of the loop, with everything that waits for people."""
        tools = {name: self._definition_of(tool) for name, tool in self.originals.items()}
        return SegmentPaused(tuple(self.waiting.values()), tools)

    async def _ask_handlers(self, ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults | None:
        """Return what the agent's handlers decide of what they may; None where that is nothing."""
        offered = replace(
            requests,
            approvals=[call for call in requests.approvals if self._may_decide(call)],
            calls=[call for call in requests.calls if self._may_decide(call)],
        )
        root = ctx.tool_manager.root_capability if ctx.tool_manager is not None else None
        if root is None or not (offered.approvals or offered.calls):
            return None
        self._offered.update(call.tool_call_id for call in (*offered.approvals, *offered.calls))
        self._asks_handlers = True
        results: DeferredToolResults | None = None
        try:
            with self.events.handling(root, [*offered.approvals, *offered.calls]), suppress(LeftToPeople):
                results = await root.handle_deferred_tool_calls(ctx, requests=offered)
        finally:
            self._asks_handlers = False
        taken = None if results is None else self._take(offered, results)
        for call in (*offered.approvals, *offered.calls):
            if call.tool_call_id in self.waiting:
                waiting = self.waiting[call.tool_call_id]
                self.waiting[call.tool_call_id] = replace(waiting, expires_in=self.events.timeout)
        return taken

    async def _find_granted(self, requests: DeferredToolRequests) -> dict[str, ToolApproved]:
        """Return those calls that still wait and that a grant decides; it is looked up again when they start."""
        found: dict[str, ToolApproved] = {}
        for call in requests.approvals:
            waiting, tool = self.waiting.get(call.tool_call_id), self.originals.get(call.tool_name)
            if waiting is None or tool is None or call.tool_call_id in {*self.granted, *self.shown.questions}:
                continue
            request = request_of(waiting, self._definition_of(tool), self.policies)
            if request.remember is not None and await self.journal.find_grant(request):
                self.granted[call.tool_call_id] = request
                self.shown.granted[call.tool_call_id] = found[call.tool_call_id] = ToolApproved()
                del self.waiting[call.tool_call_id]
        return found

    def _may_decide(self, call: ToolCallPart) -> bool:
        call_id = call.tool_call_id
        tool = self.originals.get(call.tool_name)
        if call_id in self.held or call_id in self._offered or call_id in self.shown.questions or tool is None:
            return False
        earlier = self.shown.recorded.get(call_id)
        if earlier is not None and earlier.requirement is not None:
            # It had a requirement before: people decide it again.
            return False
        return not self.rules_of(tool.tool_def).asks_people

    def _take(self, offered: DeferredToolRequests, results: DeferredToolResults) -> DeferredToolResults | None:
        """Record what the handlers decided; return it without the calls that were not offered to them."""
        approvals = {call.tool_call_id for call in offered.approvals}
        calls = {call.tool_call_id for call in offered.calls}
        taken = DeferredToolResults(
            approvals={key: value for key, value in results.approvals.items() if key in approvals},
            calls={key: value for key, value in results.calls.items() if key in calls},
            metadata=results.metadata,
            answered_by=results.answered_by,
        )
        for call_id, result in taken.to_tool_call_results().items():
            decision, note = Decision.ANSWERED, None
            if isinstance(result, ToolApproved):
                decision = Decision.CONFIRMED
                self.shown.granted[call_id] = result
            elif isinstance(result, ToolDenied):
                decision, note = Decision.REJECTED, result.message
            del self.waiting[call_id]
            self.journal.record_own_decision(
                call_id, OwnDecision(decision, by=taken.answered_by.get(call_id), note=note)
            )
        return taken if taken.approvals or taken.calls else None

    def _note_deferral(self, call: ToolCallPart, error: ApprovalRequired | CallDeferred) -> None:
        """Remember that a call which the agent approved waits after all: the framework does not offer it again."""
        if call.tool_call_id in self.shown.granted and call.tool_call_id not in self.held:
            kind = "approval" if isinstance(error, ApprovalRequired) else error.kind
            self._wait(call, kind, error.metadata)

    def _wait(self, call: ToolCallPart, kind: str, metadata: Mapping[str, Any] | None) -> None:
        call_id = call.tool_call_id
        earlier = self.shown.recorded.get(call_id)
        if (
            metadata is None
            and call_id in self.shown.questions
            and earlier is not None
            and earlier.requirement is not None
        ):
            # It is the same question once more.
            metadata = earlier.requirement.metadata
        self.waiting[call_id] = WaitingCall(
            call_id,
            call.tool_name,
            self.shown.arguments.get(call_id) or call.args_as_dict(),
            kind=kind,
            metadata=metadata,
            message=self.shown.questions.get(call_id),
            earlier=self.shown.repeated.get(call_id),
        )
