"""Judges each answer of an agent once: the verdict of its functions and validators is journaled like a tool call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_ai import Agent, CallToolsNode
from pydantic_ai.exceptions import ModelRetry, ToolRetryError
from pydantic_ai.messages import (
    BinaryContent,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    RetryInfo,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.output import StructuredDict
from pydantic_ai.tools import RunContext
from pydantic_core import core_schema, from_json, to_json, to_jsonable_python

from unpause.agents.containment import describe_error, is_stop
from unpause.agents.driver import CallResult, ProposedCall
from unpause.agents.idempotency import current_call
from unpause.agents.pydantic_ai.deferred import SegmentPaused
from unpause.agents.pydantic_ai.iterators import TooLarge, read_iterators
from unpause.agents.pydantic_ai.output_effects import has_effects
from unpause.agents.pydantic_ai.results import json_text
from unpause.domain.output_schema import compile_schema
from unpause.domain.requirements import Decision
from unpause.domain.runs import CallStatus, Outcome, ToolCall
from unpause.domain.storable import DEEPEST, is_nested_deeper, replace_unstorable, replace_unstorable_numbers
from unpause.errors import UnpauseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_ai.capabilities import WrapOutputProcessHandler, WrapOutputValidateHandler
    from pydantic_ai.messages import ModelMessage, UserContent
    from pydantic_ai.output import OutputContext
    from pydantic_ai.run import AgentRun

    from unpause.agents.driver import Journal
    from unpause.agents.redaction import Redaction

_TOO_EARLY = "Not taken as the answer: it came before the rest of this turn."
_NOT_SHOWN = f"nested in more than {DEEPEST} levels"
_INPUT_CAME = "The answer was processed, but is not the last: the user has sent more since. Its result: "


class OutputFailed(Exception):
    """An output function failed, perhaps before the server stopped and could end the run; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Final:
    """What a run ends with: text, and ``str`` or the name of the output's type (then the text is JSON)."""

    content: str
    content_type: str

    @classmethod
    def of(cls, output: object) -> Final:
        """Return an output as it is stored and shown."""
        if isinstance(output, str):
            return cls(replace_unstorable(output), "str")
        return cls(json_text(output), type(output).__name__)


@dataclass
class OutputJudge:
    """The outermost hooks of an agent's outputs.

    A recorded verdict is replayed: the value of an answer that was taken, the message with which one was sent back,
    what a function raised. An answer that a human would not have processed again ends the run with the human's note.

    ``held`` are the calls that wait for the next segment. ``prompt`` is the user's input that no message carries yet,
    where the loop goes on with an answer in plain text; with ``has_unread`` the model has not seen all input.
    ``max_bytes`` are kept of what iterators in an answer yield.
    """

    journal: Journal
    calls: Mapping[str, ToolCall]
    redaction: Redaction
    held: Collection[str]
    max_bytes: int
    prompt: str | Sequence[UserContent] | None = None
    has_unread: bool = False
    _always: bool = False
    _is_parallel: bool = False
    _may_leave: bool = True
    _beside: bool = False
    _text_id: str = ""
    _restored: list[tuple[object, Final]] = field(default_factory=list)
    _denied: dict[str, str] = field(default_factory=dict)

    def attach(self, run: AgentRun[Any, Any]) -> None:
        """Find out what the agent does with its outputs."""
        deps = run.ctx.deps
        self._always = has_effects(deps.output_validators, deps.output_schema, deps.root_capability)
        self._is_parallel = deps.end_strategy == "exhaustive"

    def begin(self, response: ModelResponse, text_id: str) -> None:
        """Take the answer that is processed next; ``text_id`` stands for the call of an answer that makes none."""
        self._beside = len(response.tool_calls) > 1 or (bool(response.tool_calls) and bool(response.text))
        # Calls that run at the same time would be cut off by who leaves.
        self._may_leave = not (self._is_parallel and len(response.tool_calls) > 1)
        self._text_id = text_id

    async def final(self, output: object) -> Final:
        """Return the run's end; that of a replayed output as it was recorded."""
        recorded = next((final for value, final in self._restored if value is output), None)
        return recorded or Final.of(await self._read(output))

    def correct(self, messages: Sequence[ModelMessage]) -> None:
        """Put the human's note into the history where an answer was not processed again."""
        last = messages[-1] if messages else None
        for part in last.parts if isinstance(last, ModelRequest) else ():
            if isinstance(part, ToolReturnPart) and part.tool_call_id in self._denied:
                part.content = self._denied[part.tool_call_id]
                part.outcome = "denied"

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:  # noqa: ANN401 - any node
        """Go on with an answer in plain text exactly there, even where the agent has instructions to send."""
        if Agent.is_user_prompt_node(node) and Agent.is_model_request_node(result):
            last = ctx.messages[-1] if ctx.messages else None
            if ctx.prompt is None and isinstance(last, ModelResponse) and last.state != "suspended":
                return CallToolsNode(last)
        elif self.prompt is not None and Agent.is_call_tools_node(node) and Agent.is_model_request_node(result):
            result.request.parts = [*result.request.parts, UserPromptPart(self.prompt)]
            self.prompt = None
        return result

    async def wrap_output_validate(
        self,
        ctx: RunContext[Any],
        *,
        output_context: OutputContext,
        output: str | dict[str, Any],
        handler: WrapOutputValidateHandler,
    ) -> Any:  # noqa: ANN401 - whatever the agent makes of it
        """Judge the answer's shape, unless it was judged before."""
        if ctx.partial_output:
            return await handler(output)
        key = self._key(output_context)
        recorded = self.calls.get(key)
        if recorded is not None and recorded.status is CallStatus.FINISHED:
            if recorded.outcome is Outcome.RETRIED:
                raise _retry(output_context, recorded.result)
            return output
        if self._is_too_early(ctx) and not is_confirmed(recorded):
            raise ModelRetry(_TOO_EARLY)
        try:
            return await handler(output)
        except (ModelRetry, ValidationError) as error:
            if not (self._beside or self._acts(output_context)):
                raise
            self._propose(output_context, {"output": output} if isinstance(output, str) else output)
            refusal = self._refusal(error)
            self.journal.settle_call(key, refusal)
            raise _retry(output_context, refusal.value) from error

    async def wrap_output_process(
        self,
        ctx: RunContext[Any],
        *,
        output_context: OutputContext,
        output: Any,  # noqa: ANN401 - whatever the agent makes of it
        handler: WrapOutputProcessHandler,
    ) -> Any:  # noqa: ANN401 - the library's signature
        """Run what the agent does with the answer, unless it was run before."""
        if ctx.partial_output:
            return await handler(output)
        key = self._key(output_context)
        recorded = self.calls.get(key)
        if recorded is not None and recorded.status is CallStatus.FINISHED:
            return self._replay(ctx, output_context, recorded)
        if not self._acts(output_context):
            return await handler(output)
        await self._start(key, output_context, output)
        try:
            with current_call(key, ctx):
                result = await self._read(await handler(output))
            final = Final.of(result)
        except (ModelRetry, ValidationError, ToolRetryError) as error:
            refusal = self._refusal(error)
            await self.journal.finish_call(key, refusal)
            raise _retry(output_context, refusal.value) from error
        except UnpauseError:
            raise
        except BaseException as error:  # the boundary around an output function: its failure is recorded
            if is_stop(error):
                raise
            text = self.redaction.hide(describe_error(error))
            await self.journal.finish_call(key, CallResult(Outcome.FAILED, text, text))
            raise
        # Not waited for: the run's end, which mostly comes next, is one commit with it.
        self.journal.settle_call(key, CallResult(Outcome.SUCCESS, final.content_type, final.content))
        self._refuse_before_input(ctx, output_context, final.content)
        return result

    async def _read(self, output: object) -> object:
        try:
            return await read_iterators(output, self.max_bytes)
        except TooLarge:
            raise OutputFailed(f"The agent's answer was not kept: it has more than {self.max_bytes} bytes") from None

    async def _start(self, key: str, output_context: OutputContext, output: object) -> None:
        leaves = self._may_leave
        if leaves and self.journal.stop_requested:
            raise SegmentPaused
        self._propose(output_context, output)
        await self.journal.start_call(key, idempotent=False)
        if leaves and self.journal.stop_requested:
            await self.journal.defer_call(key)
            raise SegmentPaused

    def _key(self, output_context: OutputContext) -> str:
        return output_context.tool_call.tool_call_id if output_context.tool_call is not None else self._text_id

    def _acts(self, output_context: OutputContext) -> bool:
        return self._always or output_context.has_function

    def _is_too_early(self, ctx: RunContext[Any]) -> bool:
        """Whether calls are held or the user has sent more; not for an answer that cannot be sent back any more."""
        return bool(self.held or self.has_unread) and ctx.retry < ctx.max_retries

    def _propose(self, output_context: OutputContext, output: object) -> None:
        call = output_context.tool_call
        name = output_context.function_name or (call.tool_name if call is not None else "output")
        arguments = call.args_as_dict() if call is not None else _shown(output)
        self.journal.propose_output(ProposedCall(self._key(output_context), name, arguments))

    def _refusal(self, error: ModelRetry | ValidationError | ToolRetryError) -> CallResult:
        content: Any = error.tool_retry.content if isinstance(error, ToolRetryError) else None
        if isinstance(error, ModelRetry):
            content = error.message
        elif isinstance(error, ValidationError):
            content = error.errors(include_url=False, include_context=False)
        if isinstance(content, str):
            value = self.redaction.hide(replace_unstorable(content))
            return CallResult(Outcome.RETRIED, value, value)
        errors = _storable(content)
        return CallResult(Outcome.RETRIED, errors, to_json(errors).decode())

    def _replay(self, ctx: RunContext[Any], output_context: OutputContext, recorded: ToolCall) -> object:
        text = recorded.result_text or ""
        match recorded.outcome:
            case Outcome.RETRIED:
                raise _retry(output_context, recorded.result)
            case Outcome.SUCCESS:
                final = Final(text, recorded.result)
                self._refuse_before_input(ctx, output_context, text)
                value = text if final.content_type == "str" else from_json(text)
            case Outcome.DENIED:
                if self.has_unread and ctx.retry < ctx.max_retries:
                    raise _retry(output_context, text)
                self._denied[recorded.tool_call_id] = text
                final, value = Final(text, "str"), text
            case _:
                raise OutputFailed(text)
        self._restored.append((value, final))
        return value

    def _refuse_before_input(self, ctx: RunContext[Any], output_context: OutputContext, content: str) -> None:
        if self.has_unread and ctx.retry < ctx.max_retries:
            raise _retry(output_context, _INPUT_CAME + content)


def _retry(output_context: OutputContext, content: Any) -> ToolRetryError:  # noqa: ANN401 - text, or a validator's errors
    """Return what sends the answer back to the model, in the form that its way of answering has."""
    cause: Any = "model_retry" if isinstance(content, str) else "validation_error"
    call = output_context.tool_call
    if call is None:
        return ToolRetryError(RetryFeedbackPart(content, retry=RetryInfo(cause)))
    part = ToolReturnPart(call.tool_name, content, call.tool_call_id, outcome="retried", retry=RetryInfo(cause))
    return ToolRetryError(part)


def is_confirmed(call: ToolCall | None) -> bool:
    """Whether a human has an answer processed again that was in doubt."""
    answer = call.requirement.answer if call is not None and call.requirement is not None else None
    return answer is not None and answer.decision is Decision.CONFIRMED


def _shown(output: object) -> dict[str, Any]:
    if isinstance(output, BinaryContent):
        return {"media_type": output.media_type}
    value = _storable(output)
    return value if isinstance(value, dict) else {"output": value}


def _storable(value: object) -> Any:  # noqa: ANN401 - JSON
    """Return JSON that can be stored and read again, in place of any value."""
    try:
        plain = to_jsonable_python(value, fallback=str)
    except ValueError:
        # Bottomless, or a circle.
        return _NOT_SHOWN
    return _NOT_SHOWN if is_nested_deeper(plain) else replace_unstorable_numbers(replace_unstorable(plain))


def output_type(stored: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - a type made from the schema
    """Return the type for the run's ``output_schema``; None, the agent's own, where there is none.

    The framework's own type for a JSON schema shows it to the model and takes any object: here one that does not fit
    goes back to the model.
    """
    if stored is None:
        return None
    find_misfit = compile_schema(stored["schema"])

    def check(answer: dict[str, Any]) -> dict[str, Any]:
        misfit = find_misfit(answer)
        if misfit is not None:
            raise ValueError(misfit)
        return answer

    class Answer(StructuredDict(stored["schema"], stored["name"])):  # type: ignore[misc]  # a class made at run time
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:  # noqa: ANN401 - the library's signature
            values = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
            return core_schema.no_info_after_validator_function(check, values)

    return Answer
