"""Records a model's answer while it arrives, without the event streams of the agent."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.wrapper import WrapperModel

from unpause.agents.containment import is_stop

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.run import AgentRun
    from pydantic_ai.settings import ModelSettings
    from pydantic_ai.tools import RunContext

    from unpause.agents.pydantic_ai.events import EventRecorder
    from unpause.agents.pydantic_ai.failures import Meter, RunLimits

_REQUEST_HOOKS = (
    "after_model_request",
    "get_wrapper_model",
    "on_model_request_error",
    "prepare_model_request",
    "wrap_model_request",
)


class RecordedModel(WrapperModel):
    """Streams each answer from the model to the recorder, and gives the agent the whole of it.

    For each streamed request an agent starts a task and puts its stream into several generators, which costs more than
    everything else that the request does. The connection to the provider is the same: a request is streamed.
    """

    def __init__(
        self,
        wrapped: Model,
        context: RunContext[Any] | None,
        recorder: EventRecorder,
        meter: Meter,
        limits: RunLimits,
    ) -> None:
        super().__init__(wrapped)
        self._context = context
        self._recorder = recorder
        self._meter = meter
        self._limits = limits

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Return the answer once all of it has been recorded."""
        recorder, meter, limits = self._recorder, self._meter, self._limits
        # A provider that suspends its answer is sent what there is of it, and may repeat that.
        continues = isinstance(messages[-1], ModelResponse)
        meter.begin_request()
        await recorder.begin_answer(continues=continues)
        sending = self.wrapped.request_stream(messages, model_settings, model_request_parameters, self._context)
        async with sending as stream:
            try:
                async for event in stream:
                    if not continues:
                        await recorder.record_event(event)
                    if limits.total_tokens_limit is not None:
                        limits.check_total(meter.usage + stream.usage)
                answer = stream.get()
                if continues:
                    await recorder.record_rest(answer)
                await recorder.end_answer(meter.usage + answer.usage)
            except BaseException as error:  # the boundary around a model: what there is of its answer is kept
                if not is_stop(error):
                    recorder.partial = _broken_off(stream.get(), meter)
                raise
        return answer


def _broken_off(answer: ModelResponse, meter: Meter) -> ModelResponse | None:
    """Return what there is of an answer that ends too early, and count what it used; None where that is nothing."""
    meter.usage.incr(answer.usage)
    if not answer.parts:
        return None
    meter.usage.requests += 1
    return replace(answer, state="interrupted")


def needs_streams(run: AgentRun[Any, Any], *settings: object) -> bool:
    """Whether the agent has to stream its requests: for hooks that see events or whole requests, and for a time-out.

    ``settings`` are those of the agent and its model: only of a streamed request the framework limits the time to the
    first event.
    """
    root = run.ctx.deps.root_capability
    if root.has_wrap_run_event_stream or root.has_on_event:
        return True
    leaves: list[AbstractCapability[Any]] = []
    root.apply(leaves.append)
    return any(_hooks_into_requests(type(leaf)) for leaf in leaves) or any(map(_limits_first_event, settings))


@lru_cache(maxsize=256)
def _hooks_into_requests(kind: type[AbstractCapability[Any]]) -> bool:
    if kind.__module__.startswith("unpause."):
        return False
    return any(getattr(kind, name) is not getattr(AbstractCapability, name) for name in _REQUEST_HOOKS)


def _limits_first_event(settings: object) -> bool:
    if settings is None:
        return False
    # A function makes them for each request.
    return not isinstance(settings, dict) or "first_event_timeout" in settings
