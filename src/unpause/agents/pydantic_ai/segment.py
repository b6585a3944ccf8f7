"""One trip through the loop of a Pydantic AI agent: from the journal to the next pause, the end or a failure."""

from __future__ import annotations

import base64
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog
from pydantic_ai import Agent
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import BinaryContent, ModelMessagesTypeAdapter, ModelResponse

from unpause.agents.containment import is_stop
from unpause.agents.driver import Completed, Failed, Paused
from unpause.agents.pydantic_ai.answers import RecordedModel, needs_streams
from unpause.agents.pydantic_ai.call_ends import CallEnds
from unpause.agents.pydantic_ai.capabilities import PlainCapability, SegmentCapability
from unpause.agents.pydantic_ai.deferred import SegmentPaused, requests_of
from unpause.agents.pydantic_ai.events import EventRecorder
from unpause.agents.pydantic_ai.external_events import RowWaiter
from unpause.agents.pydantic_ai.failures import Meter, RunLimits, counted, failure
from unpause.agents.pydantic_ai.forms import conceal_filled_in
from unpause.agents.pydantic_ai.frontends import context_of, tools_of
from unpause.agents.pydantic_ai.model_output import call_ids, make_history_ids_unique
from unpause.agents.pydantic_ai.outputs import OutputJudge, is_confirmed, output_type
from unpause.agents.pydantic_ai.shown_calls import ShownCalls
from unpause.agents.pydantic_ai.toolset import JournalCapability
from unpause.agents.pydantic_ai.turns import results_of_turn
from unpause.domain.runs import EndReason
from unpause.errors import ModelNotAllowed, UnpauseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_ai.messages import UserContent
    from pydantic_ai.models import Model
    from pydantic_ai.run import AgentRun

    from unpause.agents.driver import Journal, Segment, SegmentEnd
    from unpause.agents.model_choice import ModelChoice
    from unpause.agents.policy import ToolPolicies
    from unpause.agents.pydantic_ai.dependencies import SegmentDeps
    from unpause.agents.redaction import Redaction
    from unpause.clock import Ids
    from unpause.domain.runs import Run, RunInput

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSetup:
    """What the segments of one agent have in common."""

    agent: Agent[Any, Any]
    models: ModelChoice
    deps: SegmentDeps
    policies: ToolPolicies
    limits: RunLimits
    redaction: Redaction
    ids: Ids
    max_result_bytes: int
    # Whether the agent has no capabilities of its author's.
    is_plain: bool = False


class SegmentLoop:
    """Goes on with one run. Where the agent streams, every event passes ``run``, which is one coroutine therefore.

    ``events`` is what the agent's code waits for external events with.
    """

    def __init__(self, setup: AgentSetup, segment: Segment, journal: Journal, meter: Meter) -> None:
        self._setup = setup
        self._segment = segment
        self._journal = journal
        self._meter = meter
        self._calls = {call.tool_call_id: call for call in segment.calls}
        self._redaction = setup.redaction.concealing(conceal_filled_in(segment.requirements))
        self._recorder = EventRecorder(segment, journal, setup.ids)
        held: set[str] = set()
        self._judge = OutputJudge(journal, self._calls, self._redaction, held, setup.max_result_bytes)
        shown = ShownCalls(journal, self._calls, self._recorder.arguments, self._redaction)
        kind = PlainCapability if setup.is_plain else SegmentCapability
        self.events = RowWaiter(segment.run.run_id)
        known, has_hooks = self._recorder.calls, not setup.is_plain
        ends = CallEnds(journal, self._redaction, setup.max_result_bytes, known, has_hooks=has_hooks)
        self._gate = kind(journal, shown, setup.policies, self.events, ends, held, judge=self._judge)
        self._tools = JournalCapability(
            journal=journal,
            calls=self._calls,
            redaction=self._redaction,
            gate=self._gate,
            max_result_bytes=setup.max_result_bytes,
            frontend=tools_of(segment.run),
        )
        self._capabilities = self._gate.joined_with(self._tools)

    async def run(self) -> SegmentEnd:
        """Go on until the run waits, ends or fails; failures of model and agent are returned, not raised."""
        try:
            model = self._setup.models.get(self._segment.run.model_choice)
            async with self._setup.deps.opened(self._segment.run) as deps:
                return await self._go_on(model, deps)
        except ModelNotAllowed as error:
            return Failed(EndReason.AGENT_ERROR, error.message, counted(self._meter.usage))
        except UnpauseError:
            raise
        except BaseException as error:  # the boundary around an agent: whatever it raises ends only this run
            if is_stop(error):
                raise
            self._recorder.record_failure(_prompt(self._segment.inputs))
            return failure(error, self._meter.usage, self._redaction)
        finally:
            # The run refers back to these: only the garbage collector would free them together.
            self._recorder.follow(None)
            self._gate.ends.enqueued.follow(None)
            self._gate.release()

    async def _go_on(self, model: Model, deps: object) -> SegmentEnd:
        """Run the loop. A pause leaves it as ``break`` would: for the agent's own hooks it is no error of the run."""
        pause: SegmentPaused | None = None
        fatal: UnpauseError | None = None
        try:
            async with self._iter(model, deps) as run:
                try:
                    await self._advance(run, model)
                except (SegmentPaused, UserError) as error:
                    pause = self._pause_of(error)
                except UnpauseError as error:
                    fatal = error
                    raise
        except (SegmentPaused, UserError) as error:
            pause = self._pause_of(error)
        except Exception as error:
            if pause is None:
                raise
            # Of a hook, or a model's client. People are asked all the same.
            _log.warning("agent did not close", exception=self._redaction.traceback_of(error))
        if fatal is not None:
            # Hooks may give a result in place of an error, but not of one of the server's.
            raise fatal
        if pause is None and self._gate.has_waiting:
            # The agent takes an answer for its last one that came beside calls which have not run.
            pause = self._gate.paused()
        # The result is what the agent's own hooks have made of it.
        return await (self._complete(run) if pause is None else self._pause(pause))

    async def _advance(self, run: AgentRun[Any, Any], model: Model) -> None:
        """Take all steps of the run."""
        self._judge.attach(run)
        self._tools.attach(run)
        self._recorder.follow(run)
        self._gate.ends.enqueued.follow(run)
        self._gate.ends.enqueued.restore(run, self._segment.messages, self._segment.calls)
        streams = self._streams(run, model)
        previous: object = None
        async for node in run:
            _refuse_repetition(previous, node)
            previous = node
            if Agent.is_model_request_node(node):
                await self._journal.flush()
                self._before_request(run, node.request)
                if not streams:
                    continue
                async with node.stream(run.ctx) as stream:
                    self._meter.begin_request()
                    with self._setup.limits.explained(stream):
                        await self._recorder.record_answer(stream)
            elif Agent.is_call_tools_node(node):
                self._before_calls(run, node.model_response)
                async with node.stream(run.ctx) as events:
                    await self._recorder.record_results(events)

    def _streams(self, run: AgentRun[Any, Any], model: Model) -> bool:
        """Return whether the agent streams its requests; where it does not, have their models record the answers."""
        if needs_streams(run, self._setup.agent.model_settings, model.settings):
            return True
        recorder, meter, limits = self._recorder, self._meter, self._setup.limits
        self._gate.record = lambda serving, context: RecordedModel(serving, context, recorder, meter, limits)
        return False

    def _iter(self, model: Model, deps: object) -> AbstractAsyncContextManager[AgentRun[Any, Any]]:
        segment, recorder = self._segment, self._recorder
        recorder.use_model(model.model_name, model.system)
        own = ModelMessagesTypeAdapter.validate_python(segment.messages)
        earlier = ModelMessagesTypeAdapter.validate_python(segment.history)
        make_history_ids_unique(earlier, call_ids(own))
        history = [*earlier, *own]
        recorder.reserve_ids(history)
        prompt, decisions = _prompt(segment.inputs), results_of_turn(own, self._calls)
        if is_confirmed(self._calls.get(recorder.answer_id)):
            # An answer in plain text that a human has confirmed is processed before the user's newer input.
            self._judge.prompt, prompt = prompt, None
        self._judge.has_unread = self._judge.prompt is not None or (prompt is not None and decisions is not None)
        # DeferredToolRequests is not added to the output types: that is refused for an agent with output validators.
        # The gate leaves the loop with the same requests instead, for every agent alike.
        return self._setup.agent.iter(
            prompt,
            deps=deps,
            message_history=history or None,
            deferred_tool_results=decisions,
            model=model,
            usage=self._meter.usage,
            usage_limits=self._setup.limits,
            capabilities=self._capabilities,
            output_type=output_type(segment.run.output_schema),
            metadata=_client_data(segment.run),
            instructions=context_of(segment.run),
            infer_name=False,
        )

    def _before_request(self, run: AgentRun[Any, Any], request: Any) -> None:  # noqa: ANN401 - a node's request
        """Raise SegmentPaused where no model request may start now."""
        self._recorder.expect_answer(request)
        stops = self._journal.stop_requested
        if stops:
            self._recorder.record_refusal(run.new_messages(), request)
        if stops or self._gate.has_waiting:
            raise self._gate.paused()
        self._judge.has_unread = self._gate.resumes = False

    def _before_calls(self, run: AgentRun[Any, Any], response: ModelResponse) -> None:
        """Record the model's answer; raise SegmentPaused where nothing of it may be processed now."""
        self._gate.ends.enqueued.add_to_answer(response)
        self._recorder.record_response(run.new_messages(), response, self._tools.output_tools)
        self._judge.begin(response, self._recorder.answer_id)
        if self._journal.stop_requested and self._recorder.answers_beside_calls(response):
            # Some ways to end an agent's run do not wait for the calls beside its answer.
            raise SegmentPaused

    def _pause_of(self, error: SegmentPaused | UserError) -> SegmentPaused:
        if isinstance(error, SegmentPaused):
            # Without the frames, one of which holds it.
            return error.with_traceback(None)
        if not self._gate.waiting:
            raise error
        # The framework ends a turn with this error in which a call waits that the agent's own handler had approved.
        return self._gate.paused()

    async def _pause(self, pause: SegmentPaused) -> Paused:
        await self._recorder.emit_content_completed()
        requests = requests_of(pause, self._setup.policies)
        return Paused(requests, self._recorder.text or None, self._meter.counts())

    async def _complete(self, run: AgentRun[Any, Any]) -> Completed:
        self._judge.correct(run.new_messages())
        await self._recorder.emit_content_completed()
        final = await self._judge.final(run.result.output if run.result is not None else "")
        rest = self._recorder.take_remaining(run.new_messages())
        completed = Completed(final.content, final.content_type, self._meter.counts(), rest)
        schema = self._segment.run.output_schema
        return completed if schema is None else replace(completed, content_type=schema["name"])


def _refuse_repetition(previous: object, node: object) -> None:
    """Raise RuntimeError where a step begins anew: an author's code raised StopAsyncIteration, and would forever."""
    if node is previous:
        raise RuntimeError("the agent made no progress: its code raised StopAsyncIteration")


def _client_data(run: Run) -> dict[str, Any]:
    """Return what the client sent along, for the agent's tools to read as ``ctx.metadata``."""
    data = {
        "session_state": run.session_state,
        "dependencies": run.dependencies,
        "metadata": run.metadata,
        "user_id": run.user_id,
        "session_id": run.session_id,
        "run_id": run.run_id,
    }
    return {name: value for name, value in data.items() if value is not None}


def _prompt(inputs: Sequence[RunInput]) -> str | list[UserContent] | None:
    """Return the user's input that no message carries yet; None where there is none."""
    new = [item for item in inputs if item.prompt or item.images or item.position == 0]
    if not new:
        return None
    if len(new) == 1 and not new[0].images:
        return new[0].prompt
    content: list[UserContent] = []
    for item in new:
        content.append(item.prompt)
        content.extend(
            BinaryContent(base64.b64decode(image.data), media_type=image.media_type) for image in item.images
        )
    return content
