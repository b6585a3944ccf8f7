"""Stands between Pydantic AI and the tools: no call without its permission, each call journaled, none run twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ValidationError
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import (
    AgentRunError,
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    ToolFailed,
    UsageLimitExceeded,
)
from pydantic_ai.messages import ModelRequest, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
from pydantic_core import SchemaValidator, core_schema

from unpause.agents.containment import describe_error, is_stop
from unpause.agents.driver import CallResult
from unpause.agents.policy import ToolPolicy
from unpause.agents.pydantic_ai.failures import RunLimitReached, ToolLimitReached
from unpause.agents.pydantic_ai.forms import conceal_arguments
from unpause.agents.pydantic_ai.model_output import NOT_KEPT, TOO_DEEP, clean_request
from unpause.agents.pydantic_ai.results import given_back, read_iterator, record_of, replay, storable_text
from unpause.agents.pydantic_ai.schemas import hide_parameters
from unpause.domain.requirements import Decision
from unpause.domain.runs import CallStatus, Outcome, ToolCall
from unpause.domain.storable import replace_unstorable
from unpause.errors import UnpauseError

if TYPE_CHECKING:
    from unpause.agents.driver import Journal
    from unpause.agents.redaction import Redaction

_log = structlog.get_logger(__name__)


class SegmentPaused(Exception):
    """Leaves the agent loop with the calls that wait for a human."""

    def __init__(self, requests: DeferredToolRequests, tools: Mapping[str, ToolDefinition]) -> None:
        super().__init__("the segment waits for a human")
        self.requests = requests
        self.tools = tools


# A call that lacks what the user will fill in cannot be checked by the tool's own schema yet.
_ANY_OBJECT = SchemaValidator(core_schema.dict_schema(core_schema.str_schema()))


@dataclass
class JournaledToolset(WrapperToolset[Any]):
    """Wraps all tools of an agent for one segment."""

    journal: Journal
    calls: Mapping[str, ToolCall]
    originals: dict[str, ToolsetTool[Any]]
    held: set[str]
    redaction: Redaction
    max_result_bytes: int

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as the model may see them, each with the rules of its policy applied."""
        tools = await super().get_tools(ctx)
        self.originals.update(tools)
        return {name: _ruled(self._checking(tool)) for name, tool in tools.items()}

    def _checking(self, tool: ToolsetTool[Any]) -> ToolsetTool[Any]:
        """Return the tool with a validator that is told what a human said, as the tool itself is."""
        check = tool.args_validator_func
        if check is None:
            return tool
        return replace(tool, args_validator_func=lambda ctx, **arguments: check(self._told(ctx), **arguments))

    def _told(self, ctx: RunContext[Any]) -> RunContext[Any]:
        """Return the context with the human's word: the loop takes all that goes on after a pause for approved."""
        return replace(ctx, tool_call_approved=_is_permitted(self.calls.get(ctx.tool_call_id or "")))

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:  # noqa: ANN401 - whatever the tool returns
        """Run the tool once for its decision; give the recorded result of a call that already ran."""
        call_id = ctx.tool_call_id or ""
        recorded = self.calls.get(call_id)
        if recorded is not None and recorded.status is CallStatus.FINISHED:
            return replay(recorded)
        if tool.tool_def.kind == "external":
            raise CallDeferred
        if tool.tool_def.kind == "unapproved" and not _is_permitted(recorded):
            raise ApprovalRequired
        if self._is_stopping():
            raise self._hold(call_id)
        original = self.originals[name]
        arguments = self._checked(original, tool, tool_args)
        await self.journal.start_call(call_id, idempotent=ToolPolicy.of(tool.tool_def.metadata).idempotent)
        if self._is_stopping():
            # Heard with the start itself, before the tool did anything.
            await self.journal.defer_call(call_id)
            raise self._hold(call_id)
        return await self._run(call_id, name, arguments, self._told(ctx), original)

    def _checked(self, original: ToolsetTool[Any], tool: ToolsetTool[Any], arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments checked by the tool's own schema, where that could not be done before."""
        if tool.args_validator is not _ANY_OBJECT:
            return arguments
        try:
            checked: dict[str, Any] = original.args_validator.validate_python(arguments)
        except ValidationError as error:
            raise ModelRetry(self.redaction.hide(str(error))) from None
        return checked

    def _is_stopping(self) -> bool:
        return self.journal.stop_requested

    def _hold(self, call_id: str) -> ApprovalRequired:
        """Keep the call for the next segment; the others of its turn that run already may end."""
        self.held.add(call_id)
        return ApprovalRequired()

    async def _run(
        self, call_id: str, name: str, arguments: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:  # noqa: ANN401
        given = ToolPolicy.of(tool.tool_def.metadata), arguments
        try:
            returned = await self.wrapped.call_tool(name, arguments, ctx, tool)
            returned = await read_iterator(returned, self.max_result_bytes)
        except (ApprovalRequired, CallDeferred):
            await self.journal.defer_call(call_id)
            raise
        except ModelRetry as error:
            raise ModelRetry(await self._finish(call_id, Outcome.RETRIED, error, given)) from error
        except AgentRunError as error:
            text = await self._finish(call_id, Outcome.FAILED, error, given)
            if isinstance(error, UsageLimitExceeded) and not isinstance(error, RunLimitReached):
                raise ToolLimitReached(name, text) from error
            raise
        except UnpauseError:
            raise
        except ToolFailed as error:
            raise ToolFailed(await self._finish(call_id, Outcome.FAILED, error, given)) from error
        except BaseException as error:  # the boundary around a tool: the model is told, the run goes on
            if is_stop(error):
                raise
            _log.warning(
                "tool failed", tool=name, call_id=call_id, exception=self._redaction(given).traceback_of(error)
            )
            raise ToolFailed(await self._finish(call_id, Outcome.FAILED, error, given)) from error
        result = await record_of(returned, self.max_result_bytes)
        await self.journal.finish_call(call_id, result)
        # Not what was returned: the model gets what the record holds, before a restart as after it.
        return given_back(result)

    def _redaction(self, given: tuple[ToolPolicy, dict[str, Any]]) -> Redaction:
        return self.redaction.concealing(conceal_arguments(*given))

    async def _finish(
        self, call_id: str, outcome: Outcome, error: BaseException, given: tuple[ToolPolicy, dict[str, Any]]
    ) -> str:
        """Write down what the tool raised; return that without secrets, which is all that the model may see of it."""
        text = self._redaction(given).hide(storable_text(describe_error(error), self.max_result_bytes))
        await self.journal.finish_call(call_id, CallResult(outcome, text, text))
        return text


@dataclass
class JournalCapability(AbstractCapability[Any]):
    """Puts the journaled toolset around an agent's tools, and leaves the loop when calls wait for a human.

    ``held`` are calls that wait for nothing but the next segment. While ``unread`` the user has said something that
    the model sees only after the calls that are being made.
    """

    journal: Journal
    calls: Mapping[str, ToolCall]
    redaction: Redaction
    max_result_bytes: int
    unread: bool = False
    originals: dict[str, ToolsetTool[Any]] = field(default_factory=dict)
    output_tools: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)

    async def prepare_output_tools(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        tool_defs: list[ToolDefinition],
    ) -> list[ToolDefinition]:
        """Remember which tools only carry the agent's answer: they are no calls for anybody to see."""
        self.output_tools.update(definition.name for definition in tool_defs)
        return tool_defs

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the toolset, journaled."""
        return JournaledToolset(
            toolset, self.journal, self.calls, self.originals, self.held, self.redaction, self.max_result_bytes
        )

    async def before_model_request(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        request_context: ModelRequestContext,
    ) -> ModelRequestContext:
        """Make what the agent is about to send storable: no provider could be sent it otherwise."""
        request = request_context.messages[-1]
        if isinstance(request, ModelRequest):
            clean_request(request)
        parameters = request_context.model_request_parameters
        instructions = parameters.instruction_parts
        if instructions and (cleaned := replace_unstorable(instructions)) is not instructions:
            request_context.model_request_parameters = replace(parameters, instruction_parts=cleaned)
        return request_context

    async def before_tool_validate(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,  # noqa: ARG002
        args: str | dict[str, Any],
    ) -> str | dict[str, Any]:
        """Send back a call whose arguments were nested too deeply to be kept."""
        if call.args == NOT_KEPT:
            raise ModelRetry(TOO_DEEP)
        return args

    async def handle_deferred_tool_calls(
        self,
        ctx: RunContext[Any],  # noqa: ARG002 - part of the hook
        *,
        requests: DeferredToolRequests,
    ) -> DeferredToolResults | None:
        """Leave the agent loop: what waits here waits in the database, not in memory."""
        waiting = replace(
            requests, approvals=[call for call in requests.approvals if call.tool_call_id not in self.held]
        )
        raise SegmentPaused(waiting, {name: tool.tool_def for name, tool in self.originals.items()})


def _ruled(tool: ToolsetTool[Any]) -> ToolsetTool[Any]:
    definition = tool.tool_def
    rules = ToolPolicy.of(definition.metadata)
    if definition.kind != "function" and not rules.user_input:
        return tool
    if definition.kind == "function" and (rules.user_input or rules.waits):
        definition = replace(definition, kind="unapproved")
    if not rules.user_input:
        return replace(tool, tool_def=definition)
    shown = replace(definition, parameters_json_schema=hide_parameters(definition, rules.user_input))
    return replace(tool, tool_def=shown, args_validator=_ANY_OBJECT)


def _is_permitted(call: ToolCall | None) -> bool:
    """Whether a human has said yes to exactly this call."""
    if call is None or call.requirement is None or call.requirement.answer is None:
        return False
    return call.requirement.answer.decision in {Decision.CONFIRMED, Decision.ANSWERED}
