"""Stands between Pydantic AI and the tools: no call without approval, each call journaled, none run twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import structlog
from pydantic_ai.capabilities import ReinjectSystemPrompt
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
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, ExternalToolset, ToolsetTool, WrapperToolset

from unpause.agents.containment import is_stop
from unpause.agents.idempotency import current_call, find_outer_call
from unpause.agents.policy import ToolPolicy
from unpause.agents.pydantic_ai.connections import find_lost_connection
from unpause.agents.pydantic_ai.contexts import copied_with
from unpause.agents.pydantic_ai.deferred import refuse_metadata
from unpause.agents.pydantic_ai.failures import RunLimitReached, ToolLimitReached
from unpause.agents.pydantic_ai.forms import conceal_arguments
from unpause.agents.pydantic_ai.gate import CallGate
from unpause.agents.pydantic_ai.iterators import read_iterators
from unpause.agents.pydantic_ai.model_output import NOT_KEPT, TOO_DEEP, clean_request
from unpause.agents.pydantic_ai.results import record_of, restore
from unpause.agents.pydantic_ai.ruled_tools import stand_ins, with_rules
from unpause.agents.pydantic_ai.stream_bypass import StreamBypass
from unpause.domain.runs import ToolCall
from unpause.domain.storable import replace_unstorable
from unpause.errors import UnpauseError

if TYPE_CHECKING:
    from pydantic_ai.run import AgentRun

    from unpause.agents.driver import Journal
    from unpause.agents.redaction import Redaction

_log = structlog.get_logger(__name__)


@dataclass
class JournaledToolset(WrapperToolset[Any]):
    """Wraps all tools of an agent for one segment."""

    journal: Journal
    calls: Mapping[str, ToolCall]
    gate: CallGate
    redaction: Redaction
    max_result_bytes: int
    frontend: ExternalToolset[Any] | None = None
    # The names that a client's tool cannot have, besides those of the agent's tools.
    taken: Collection[str] = ()

    async def for_run(self, ctx: RunContext[Any]) -> AbstractToolset[Any]:
        """Prepare the tools for the segment."""
        with self.gate.reaching_tools():
            return await super().for_run(ctx)

    async def for_run_step(self, ctx: RunContext[Any]) -> AbstractToolset[Any]:
        """Prepare the tools for the next step."""
        with self.gate.reaching_tools():
            return await super().for_run_step(ctx)

    async def __aenter__(self) -> Self:
        """Connect to what the tools are served by."""
        with self.gate.reaching_tools():
            return await super().__aenter__()

    async def __aexit__(self, *args: object) -> bool | None:
        """Disconnect from it. The run has its answer, pause or error by now, and keeps it whatever fails here."""
        try:
            return await super().__aexit__(*args)
        except BaseException as error:  # the boundary around an agent's toolsets
            if is_stop(error):
                raise
            _log.warning("tools did not close", exception=self.redaction.traceback_of(error))
            return None

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as the model may see them, each with the rules of its policy applied."""
        with self.gate.reaching_tools():
            tools = await super().get_tools(ctx)
        if self.frontend is not None:
            # A client cannot put a tool of its own in the place of one of the agent's.
            own = await self.frontend.get_tools(ctx)
            tools = {**{name: tool for name, tool in own.items() if name not in self.taken}, **tools}
        self.gate.originals.update(tools)
        self.gate.added.difference_update(tools)
        if self.gate.resumes:
            tools = {name: _passing(tool) for name, tool in tools.items()}
        tools = {name: self._checking(tool) for name, tool in tools.items()}
        if self.gate.rules_last:
            return tools
        ruled = {name: tool.tool_def for name, tool in tools.items()}
        return with_rules({**tools, **stand_ins(self, self.gate, tools)}, self.gate, ruled)

    def _checking(self, tool: ToolsetTool[Any]) -> ToolsetTool[Any]:
        """Return the tool with a validator that sees, as the tool does, whether a human approved the call."""
        check = tool.args_validator_func
        if check is None:
            return tool
        return replace(tool, args_validator_func=lambda ctx, **arguments: check(self._with_approval(ctx), **arguments))

    def _with_approval(self, ctx: RunContext[Any]) -> RunContext[Any]:
        """Return the context with the real approval: the loop takes every call after a pause for approved."""
        return copied_with(ctx, tool_call_approved=self.gate.shown.permits(ctx.tool_call_id or ""))

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:  # noqa: ANN401 - whatever the tool returns
        """Run the tool once for its decision; give the recorded result of a call that already ran.

        What another tool calls is a part of that one's call, and cannot wait.
        """
        call_id = ctx.tool_call_id or ""
        recorded = self.calls.get(call_id)
        if (ended := self.gate.ends.find(call_id, recorded)) is not None:
            return restore(ended)
        original = self.gate.originals[name]
        if original.tool_def.kind == "external":
            raise CallDeferred
        # Whatever the agent's own toolsets have made of the tool's kind.
        rules = self.gate.rules_of(original.tool_def)
        asks = tool.tool_def.kind == "unapproved" or rules.waits or rules.user_input
        if asks and not self.gate.shown.permits(call_id):
            raise ApprovalRequired
        outer = find_outer_call(ctx)
        if outer is not None and (outer == call_id or not self.gate.ends.knows(call_id)):
            return await self.wrapped.call_tool(name, tool_args, self._with_approval(ctx), original)
        if self._is_stopping():
            raise self._hold(call_id)
        idempotent = rules.idempotent
        granted = self.gate.granted.get(call_id)
        if granted is None:
            await self.journal.start_call(call_id, idempotent=idempotent)
        elif not await self.journal.start_granted_call(granted, idempotent=idempotent):
            # It was revoked or has expired meanwhile: people decide.
            raise ApprovalRequired
        if self._is_stopping():
            # The request came with the commit of the start, before the tool did anything.
            await self.journal.defer_call(call_id)
            raise self._hold(call_id)
        return await self._run(call_id, name, tool_args, self._with_approval(ctx), original)

    def _is_stopping(self) -> bool:
        return self.journal.stop_requested

    def _hold(self, call_id: str) -> ApprovalRequired:
        """Keep the call for the next segment; running calls of its turn may end."""
        self.gate.held.add(call_id)
        return ApprovalRequired()

    async def _run(
        self, call_id: str, name: str, arguments: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:  # noqa: ANN401 - whatever the tool returns
        ends, redaction = self.gate.ends, partial(self._redaction, self.gate.rules_of(tool.tool_def), arguments)
        try:
            with current_call(call_id, ctx):
                returned = await self._reach(name, arguments, ctx, tool)
                returned = await read_iterators(returned, self.max_result_bytes)
        except (ApprovalRequired, CallDeferred) as error:
            try:
                refuse_metadata(error)
            except ToolFailed as failure:
                raise ToolFailed(ends.fail(call_id, failure, redaction)) from error
            await self.journal.defer_call(call_id)
            raise
        except ModelRetry as error:
            raise ModelRetry(ends.fail(call_id, error, redaction)) from error
        except AgentRunError as error:
            text = ends.fail(call_id, error, redaction)
            if isinstance(error, UsageLimitExceeded) and not isinstance(error, RunLimitReached):
                raise ToolLimitReached(name, text) from error
            raise
        except UnpauseError:
            raise
        except ToolFailed as error:
            raise ToolFailed(ends.fail(call_id, error, redaction)) from error
        except BaseException as error:  # the boundary around a tool: the model gets the error, the run goes on
            if is_stop(error):
                raise
            _log.warning("tool failed", tool=name, call_id=call_id, exception=redaction().traceback_of(error))
            raise ToolFailed(ends.fail(call_id, error, redaction)) from error
        result = await record_of(returned, self.max_result_bytes)
        self.gate.ends.record(call_id, result, redaction)
        # Not the tool's own object: the model gets the record's content, as it would after a restart.
        return restore(result)

    async def _reach(self, name: str, arguments: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]) -> Any:  # noqa: ANN401 - whatever the tool returns
        """Call the tool; where its server is away, an approved call waits for another yes."""
        try:
            return await self.wrapped.call_tool(name, arguments, ctx, tool)
        except Exception as error:  # the boundary around a tool's server: its libraries have errors of their own
            call_id = ctx.tool_call_id or ""
            recorded = self.calls.get(call_id)
            lost = find_lost_connection(tool, error)
            if lost is None or recorded is None or not self.gate.shown.permits(call_id):
                raise
            self.gate.shown.put_back(recorded, lost.error, in_doubt=lost.may_have_run)
            raise ApprovalRequired from error

    def _redaction(self, rules: ToolPolicy, arguments: dict[str, Any]) -> Redaction:
        return self.redaction.concealing(conceal_arguments(rules, arguments))


@dataclass(kw_only=True)
class JournalCapability(StreamBypass, ReinjectSystemPrompt[Any]):
    """Puts the journaled toolset around an agent's tools, and the agent's instructions before each request.

    ``output_tools`` are the names of the tools that only carry the agent's answer.
    """

    journal: Journal
    calls: Mapping[str, ToolCall]
    redaction: Redaction
    gate: CallGate
    max_result_bytes: int
    frontend: ExternalToolset[Any] | None = None
    output_tools: set[str] = field(default_factory=set)

    def attach(self, run: AgentRun[Any, Any]) -> None:
        """Learn the names of the output tools before the first step: no tool of a client may have one of them."""
        toolset = run.ctx.deps.output_schema.toolset
        self.output_tools.update(() if toolset is None else toolset.processors)

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
            toolset,
            self.journal,
            self.calls,
            self.gate,
            self.redaction,
            self.max_result_bytes,
            self.frontend,
            self.output_tools,
        )

    async def before_model_request(
        self,
        ctx: RunContext[Any],
        request_context: ModelRequestContext,
    ) -> ModelRequestContext:
        """Make what the agent is about to send storable: no provider could be sent it otherwise."""
        request_context = await super().before_model_request(ctx, request_context)
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
        tool_def: ToolDefinition,  # noqa: ARG002 - the library's signature
        args: str | dict[str, Any],
    ) -> str | dict[str, Any]:
        """Send back a call whose arguments were nested too deeply to be kept."""
        if call.args == NOT_KEPT:
            raise ModelRetry(TOO_DEEP)
        return args


def _passing(tool: ToolsetTool[Any]) -> ToolsetTool[Any]:
    """Return a tool that is run elsewhere so that a call of an earlier segment reaches ``call_tool``, to be deferred.

    The framework defers only calls that the model has just made: one that was cut off before its pause was written,
    or whose tool was another kind then, would end the run.
    """
    definition = tool.tool_def
    return tool if definition.kind != "external" else replace(tool, tool_def=replace(definition, kind="unapproved"))
