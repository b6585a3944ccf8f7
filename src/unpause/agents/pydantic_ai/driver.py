"""Runs Pydantic AI agents: one segment is one trip through the agent's loop, from the journal to the next end."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_ai import Agent
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import BinaryContent, ModelMessagesTypeAdapter, ModelResponse, ToolCallPart
from pydantic_ai.tools import DeferredToolResults, ToolApproved, ToolDenied
from pydantic_ai.usage import RunUsage

from unpause.agents.containment import is_stop
from unpause.agents.driver import Completed, Failed, ModelName, Paused
from unpause.agents.model_choice import ModelChoice
from unpause.agents.models import resolve_model
from unpause.agents.pydantic_ai.capability import SegmentCapability
from unpause.agents.pydantic_ai.checking import ArgumentChecker
from unpause.agents.pydantic_ai.deferred import SegmentPaused, requests_of
from unpause.agents.pydantic_ai.dependencies import Lifespans, SegmentDeps
from unpause.agents.pydantic_ai.events import EventRecorder
from unpause.agents.pydantic_ai.failures import Meter, RunLimits, counted, failure
from unpause.agents.pydantic_ai.forms import conceal_filled_in
from unpause.agents.pydantic_ai.model_output import call_ids, make_history_ids_unique
from unpause.agents.pydantic_ai.output_schemas import output_type
from unpause.agents.pydantic_ai.outputs import OutputJudge, is_confirmed
from unpause.agents.pydantic_ai.results import recorded_return
from unpause.agents.pydantic_ai.tools import describe_tools, read_policies
from unpause.agents.pydantic_ai.toolset import JournalCapability
from unpause.domain.runs import CallKind, CallStatus, EndReason, Outcome
from unpause.errors import InvalidSetting, ModelNotAllowed, UnpauseError
from unpause.settings import DEFAULT_RESULT_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pydantic_ai.messages import ModelMessage, UserContent
    from pydantic_ai.models import Model
    from pydantic_ai.run import AgentRun

    from unpause.agents.driver import ArgumentCheck, Journal, Segment, SegmentEnd, ToolDescription
    from unpause.agents.redaction import Redaction
    from unpause.clock import Ids
    from unpause.domain.runs import Run, RunInput, ToolCall

_USAGE = TypeAdapter(RunUsage)


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """What all agents of a server have in common. ``model`` None leaves every agent its own.

    ``models`` are those that a client may choose for a run, by the names that clients use.
    """

    ids: Ids
    redaction: Redaction
    model: Model | None = None
    models: Mapping[str, Model] = field(default_factory=dict)
    request_limit: int | None = None
    total_tokens_limit: int | None = None
    max_result_bytes: int = DEFAULT_RESULT_BYTES
    lifespans: Lifespans = field(default_factory=Lifespans)


class PydanticAIDriver:
    """One ``pydantic_ai.Agent``, served under its name. Implements ``agents.driver.AgentDriver``."""

    def __init__(self, agent: Agent[Any, Any], options: DriverOptions) -> None:
        if not agent.name:
            raise InvalidSetting("an agent needs a name to be served: Agent(..., name='…')")
        self._policies = read_policies(agent)
        self._agent = agent
        self._options = options
        self._checker = ArgumentChecker(agent)
        self._deps = SegmentDeps(agent, options.lifespans)
        self.lifespans = options.lifespans
        self._models = ModelChoice(_model_of(agent, options), options.models)
        self.agent_id = agent.name
        self.agent_name = agent.name
        self.model_name = self.model.model_name
        self.model_provider = self.model.system

    @property
    def model(self) -> Model:
        """The model that runs the agent where no client chose another."""
        return self._models.own

    def list_tools(self) -> list[ToolDescription]:
        """Return what the agent can call, as far as its toolsets say it without a run."""
        return describe_tools(self._agent, self._policies)

    def check_arguments(
        self, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Have the tool's schema check those of the arguments that a human chose; None where only a run can do that."""
        return self._checker.check(tool_name, arguments, chosen)

    def describe_model(self, choice: str | None) -> ModelName:
        """Return the model that a client's choice means, None being the agent's own; raise ModelNotAllowed.

        The agent's own may be chosen by its name, too: ``PROVIDER:NAME``.
        """
        return self._models.describe(choice)

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Go on with the run until it waits, ends or fails; failures of model and agent are returned, not raised."""
        usage = _USAGE.validate_python(segment.run.usage or {})
        meter = Meter(usage)
        journal.measure(meter.counts)
        redaction = self._options.redaction.concealing(conceal_filled_in(segment.requirements))
        try:
            model = self._models.get(segment.run.model_choice)
            narrator = EventRecorder(segment, journal, self._options.ids, model.model_name, model.system)
            calls = {call.tool_call_id: call for call in segment.calls}
            gate = SegmentCapability(journal, calls, narrator.arguments, redaction, self._policies)
            async with self._deps.opened(segment.run) as deps:
                end = await self._loop(segment, gate, narrator, meter, deps)
        except ModelNotAllowed as error:
            return Failed(EndReason.AGENT_ERROR, error.message, counted(usage))
        except UnpauseError:
            raise
        except BaseException as error:  # the boundary around an agent: whatever it raises ends only this run
            if is_stop(error):
                raise
            narrator.record_failure(_prompt(segment.inputs))
            return failure(error, usage, redaction)
        return end

    async def _loop(
        self, segment: Segment, gate: SegmentCapability, narrator: EventRecorder, meter: Meter, deps: object
    ) -> SegmentEnd:
        try:
            return await self._iterate(segment, gate, narrator, meter, deps)
        except SegmentPaused as paused:
            pause = paused
        except UserError:
            if not gate.waiting:
                raise
            # So the framework ends a turn in which a call waits that the agent's own handler had let run.
            pause = gate.paused()
        await narrator.say_content_completed()
        return Paused(requests_of(pause, self._policies), narrator.text or None, meter.counts())

    async def _iterate(
        self, segment: Segment, gate: SegmentCapability, narrator: EventRecorder, meter: Meter, deps: object
    ) -> SegmentEnd:
        journal, calls, redaction = gate.journal, gate.recorded, gate.redaction
        own = ModelMessagesTypeAdapter.validate_python(segment.messages)
        earlier = ModelMessagesTypeAdapter.validate_python(segment.history)
        make_history_ids_unique(earlier, call_ids(own))
        history = [*earlier, *own]
        narrator.know_ids(history)
        prompt, decisions = _prompt(segment.inputs), _decisions(own, calls)
        # An answer in plain text that a human has processed again comes before what the user said since.
        words, prompt = (prompt, None) if is_confirmed(calls.get(narrator.answer_id)) else (None, prompt)
        unread = words is not None or (prompt is not None and decisions is not None)
        capability = JournalCapability(
            journal=journal,
            calls=calls,
            redaction=redaction,
            gate=gate,
            max_result_bytes=self._options.max_result_bytes,
            unread=unread,
        )
        outputs = gate.outputs = OutputJudge(journal, calls, redaction, capability, words)
        # DeferredToolRequests is not added to the output types: that is refused for an agent with output validators.
        # The capability leaves the loop with the same requests instead, for every agent alike.
        async with self._agent.iter(
            prompt,
            deps=deps,
            message_history=history or None,
            deferred_tool_results=decisions,
            model=self._models.get(segment.run.model_choice),
            usage=meter.usage,
            usage_limits=self._limits(),
            capabilities=[gate, capability],
            output_type=output_type(segment.run.output_schema),
            metadata=_given_with(segment.run),
            infer_name=False,
        ) as run:
            outputs.attach(run)
            narrator.follow(run)
            await self._walk(run, gate, capability, narrator, meter)
            if gate.held or gate.waiting:
                # The agent takes an answer for its last word that came beside calls which have not run.
                raise gate.paused()
            end = await self._finished(run, narrator, outputs, meter)
            wanted = segment.run.output_schema
            return end if wanted is None else replace(end, content_type=wanted["name"])

    async def _walk(
        self,
        run: AgentRun[Any, Any],
        gate: SegmentCapability,
        capability: JournalCapability,
        narrator: EventRecorder,
        meter: Meter,
    ) -> None:
        """Go from step to step of the loop, until its end or until something has to wait."""
        journal = gate.journal
        previous: object = None
        async for node in run:
            if node is previous:
                # The framework begins a step anew, for ever, in which an author's code raises StopAsyncIteration.
                raise RuntimeError("the agent did not get on: its code raised StopAsyncIteration")
            previous = node
            if Agent.is_model_request_node(node):
                narrator.expect_answer(node.request)
                if journal.stop_requested:
                    narrator.record_refusal(run.new_messages(), node.request)
                if journal.stop_requested or gate.held or gate.waiting:
                    raise gate.paused()
                capability.unread = False
                async with node.stream(run.ctx) as stream:
                    meter.begin_request()
                    await narrator.tell_model_request(stream)
            elif Agent.is_call_tools_node(node):
                narrator.record_response(run.new_messages(), node.model_response, capability.output_tools)
                if gate.outputs is not None:
                    gate.outputs.begin(node.model_response, narrator.answer_id)
                if journal.stop_requested and narrator.answers_beside_calls(node.model_response):
                    # Some ways to end an agent's run do not wait for the calls beside its answer.
                    raise SegmentPaused
                async with node.stream(run.ctx) as events:
                    await narrator.tell_calls(events)

    async def _finished(
        self, run: AgentRun[Any, Any], narrator: EventRecorder, outputs: OutputJudge, meter: Meter
    ) -> Completed:
        outputs.correct(run.new_messages())
        await narrator.say_content_completed()
        final = outputs.final(run.result.output if run.result is not None else "")
        rest = narrator.take_rest(run.new_messages())
        return Completed(final.content, final.content_type, meter.counts(), rest)

    def _limits(self) -> RunLimits:
        return RunLimits(request_limit=self._options.request_limit, total_tokens_limit=self._options.total_tokens_limit)


def _model_of(agent: Agent[Any, Any], options: DriverOptions) -> Model:
    if options.model is not None:
        return options.model
    if agent.model is None:
        raise InvalidSetting(f"agent {agent.name!r} has no model: give it one, or start with --model")
    return resolve_model(agent.model) if isinstance(agent.model, str) else agent.model


def _given_with(run: Run) -> dict[str, Any]:
    """Return what the client sent along, for the agent's tools to read as ``ctx.metadata``."""
    given = {
        "session_state": run.session_state,
        "dependencies": run.dependencies,
        "metadata": run.metadata,
        "user_id": run.user_id,
        "session_id": run.session_id,
        "run_id": run.run_id,
    }
    return {name: value for name, value in given.items() if value is not None}


def _prompt(inputs: Sequence[RunInput]) -> str | list[UserContent] | None:
    """Return what the user said and no message carries yet; None where that is nothing."""
    said = [given for given in inputs if given.prompt or given.images or given.position == 0]
    if not said:
        return None
    if len(said) == 1 and not said[0].images:
        return said[0].prompt
    content: list[UserContent] = []
    for given in said:
        content.append(given.prompt)
        content.extend(
            BinaryContent(base64.b64decode(image.data), media_type=image.media_type) for image in given.images
        )
    return content


def _decisions(messages: Sequence[ModelMessage], calls: Mapping[str, ToolCall]) -> DeferredToolResults | None:
    """Return a result for every call of the last answer, so that the loop goes on exactly there.

    Calls that ran have theirs; all others are let through: to the journaled toolset, which knows what is permitted, or
    where they carry the agent's answer, to be taken as that.
    """
    if not messages or not isinstance(messages[-1], ModelResponse):
        return None
    made = [part for part in messages[-1].parts if isinstance(part, ToolCallPart)]
    if not made:
        return None
    results = DeferredToolResults()
    for part in made:
        call = calls.get(part.tool_call_id)
        if call is not None and call.kind is CallKind.OUTPUT:
            results.approvals[part.tool_call_id] = ToolApproved()
        elif call is None or call.status is not CallStatus.FINISHED:
            results.approvals[part.tool_call_id] = ToolApproved()
            if call is not None and call.requirement is not None:
                results.approvals[part.tool_call_id] = ToolApproved(override_args=call.tool_args)
                if call.requirement.metadata is not None:
                    results.metadata[part.tool_call_id] = call.requirement.metadata
        elif call.outcome is Outcome.DENIED:
            results.approvals[part.tool_call_id] = ToolDenied(call.result_text or "")
        elif call.outcome is Outcome.SUCCESS:
            results.calls[part.tool_call_id] = recorded_return(call)
        else:
            # Failures and retries are replayed by the toolset, which raises what the tool raised.
            results.approvals[part.tool_call_id] = ToolApproved()
    return results
