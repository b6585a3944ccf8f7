"""Records the loop of Pydantic AI in the journal: the model's text piece by piece, its messages and its calls."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from pydantic_ai.messages import (
    FunctionToolResultEvent,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from unpause.agents.driver import CallResult, NewMessage, ProposedCall
from unpause.agents.pydantic_ai.model_output import TextJoiner, call_ids, clean_response, make_ids_unique
from unpause.agents.pydantic_ai.transcript import entries_of
from unpause.domain.events import EventType
from unpause.domain.runs import Outcome
from unpause.domain.storable import replace_unstorable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Collection, Sequence

    from pydantic_ai.messages import ModelMessage, UserContent
    from pydantic_ai.run import AgentRun

    from unpause.agents.driver import Journal, Segment
    from unpause.clock import Ids

_log = structlog.get_logger(__name__)

_OUTCOMES = {
    "success": Outcome.SUCCESS,
    "retried": Outcome.RETRIED,
    "denied": Outcome.DENIED,
}


class EventRecorder:
    """Records one segment: ``text`` is the model's last text, ``arguments`` what is shown of each call.

    ``calls`` are the ids of those that the journal has.
    """

    def __init__(self, segment: Segment, journal: Journal, ids: Ids) -> None:
        self._journal = journal
        self._seen_ids: set[str] = set()
        # By the number of the part in the model's answer.
        self._texts: dict[int, TextJoiner] = {}
        self._thoughts: dict[int, TextJoiner] = {}
        self._ids = ids
        self._model: dict[str, str] = {}
        self.arguments = {call.tool_call_id: call.tool_args for call in segment.calls}
        self.calls = set(self.arguments)
        self._first = not segment.messages
        self._run_id = segment.run.run_id
        self._before = len(segment.messages)
        self._recorded = 0
        # Those messages, by identity.
        self._known: dict[int, ModelMessage] = {}
        self._usage: dict[str, int] = {}
        self._has_calls = False
        self._run: AgentRun[Any, Any] | None = None
        # The request under way, until its answer is recorded; and whether there was any yet.
        self._request: ModelRequest | None = None
        self._has_requested = False
        self.text = ""
        # What there is of an answer that broke off, where the agent has not kept it.
        self.partial: ModelResponse | None = None

    @property
    def answer_id(self) -> str:
        """The id in place of a call's for the newest answer without calls; the same in every segment."""
        return f"answer-{self._run_id}-{self._before + self._recorded}"

    def use_model(self, name: str, provider: str) -> None:
        """Name this model in the events of its requests."""
        self._model = {"model": name, "model_provider": provider}

    def follow(self, run: AgentRun[Any, Any] | None) -> None:
        """Take the messages of the segment from this run, should it fail; from none any more with None."""
        self._run = run

    def expect_answer(self, request: ModelRequest) -> None:
        """Note the request that the model gets next."""
        self._request = request
        self._has_requested = True

    def reserve_ids(self, messages: Sequence[ModelMessage]) -> None:
        """Give no new call the id of a call in these messages, which go to the model with it."""
        self._seen_ids |= call_ids(messages)

    async def record_answer(self, stream: AsyncIterable[Any]) -> None:
        """Pass on the model's answer piece by piece."""
        await self.begin_answer()
        async for event in stream:
            await self.record_event(event)
        await self.end_answer(getattr(stream, "usage", None))

    async def begin_answer(self, *, continues: bool = False) -> None:
        """Record that a request is sent; where it ``continues`` an answer, the text of that is kept."""
        if not continues:
            self.text = ""
            self._has_calls = False
        await self._journal.emit(EventType.MODEL_REQUEST_STARTED, self._model)

    async def record_event(self, event: object) -> None:
        """Pass on what one event of the model's stream adds to its answer."""
        for payload in self._pieces_of(event):
            await self._journal.emit(EventType.CONTENT_DELTA, payload)

    async def record_rest(self, answer: ModelResponse) -> None:
        """Pass on what a continued answer adds to the text so far, which it may repeat."""
        self._has_calls = self._has_calls or bool(answer.tool_calls)
        rest = replace_unstorable(answer.text or "").removeprefix(self.text)
        for payload in self._text(rest):
            await self._journal.emit(EventType.CONTENT_DELTA, payload)

    async def end_answer(self, counts: object) -> None:
        """Record the end of an answer; ``counts`` is the usage of the whole run."""
        for index in (*self._texts, *self._thoughts):
            for payload in self._ends_of(index):
                await self._journal.emit(EventType.CONTENT_DELTA, payload)
        tokens = {
            name: int(getattr(counts, name, 0) or 0)
            for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        }
        # The text of an answer without calls is the run's result, and stands in its last event. The key is that of
        # all logs written so far, which nodes of other versions read, too.
        text = {"said": self.text} if self._has_calls and self.text.strip() else {}
        await self._journal.emit(EventType.MODEL_REQUEST_COMPLETED, {**self._model, **tokens, **text})

    async def record_results(self, events: AsyncIterable[Any]) -> None:
        """Wait for the calls of one answer; note the results of those that never ran."""
        async for event in events:
            part = event.part if isinstance(event, FunctionToolResultEvent) else None
            if isinstance(part, ToolReturnPart) and part.tool_call_id in self.arguments:
                text = part.model_response_str(wrap_if_error=False)
                outcome = _OUTCOMES.get(part.outcome, Outcome.FAILED)
                self._journal.settle_call(part.tool_call_id, CallResult(outcome, text, text))

    async def emit_content_completed(self) -> None:
        """Record that no more text comes in this segment."""
        await self._journal.emit(EventType.CONTENT_COMPLETED)

    def record_response(
        self, messages: Sequence[ModelMessage], response: ModelResponse, output_tools: Collection[str]
    ) -> None:
        """Append the new messages, which end in ``response``, and its calls but for those of ``output_tools``."""
        self._request = None
        new = self._unrecorded(messages)
        if not new:
            return
        clean_response(response)
        make_ids_unique(response, self._seen_ids, self._ids)
        made = [
            part for part in response.parts if isinstance(part, ToolCallPart) and part.tool_name not in output_tools
        ]
        calls = [ProposedCall(part.tool_call_id, part.tool_name, part.args_as_dict()) for part in made]
        self.arguments.update({call.tool_call_id: call.tool_args for call in calls})
        self.calls.update(call.tool_call_id for call in calls)
        self._record(new, calls)

    def take_remaining(self, messages: Sequence[ModelMessage]) -> tuple[NewMessage, ...]:
        """Return what came after the last answer, such as the receipt of a structured output.

        It is stored with the run's end and not before: a run whose messages end in it would repeat the model request.
        """
        return self._take(self._unrecorded(messages, has_answer=False))

    def record_refusal(self, messages: Sequence[ModelMessage], request: ModelRequest) -> None:
        """Append a ``request`` that is not sent yet, if it refuses the answer that ends ``messages``.

        All other requests can be made again from the calls and the user's input; this one cannot.
        """
        if messages and isinstance(messages[-1], ModelResponse) and not messages[-1].tool_calls:
            self._record([*self._unrecorded(messages, has_answer=False), request], [])

    def record_failure(self, prompt: str | Sequence[UserContent] | None) -> None:
        """Append what the model was sent, or would have been, in a segment that fails now.

        ``prompt`` is the user's input, for an agent that failed before it made a request of that.
        """
        try:
            messages = list(self._run.new_messages()) if self._run is not None else []
            request = self._request
            if prompt is not None and not self._has_requested:
                request = ModelRequest([UserPromptPart(prompt)], timestamp=datetime.now(UTC))
            if messages and isinstance(messages[-1], ModelResponse) and not messages[-1].parts:
                # An answer that broke off before it began.
                messages.pop()
            new = self._unrecorded(messages, has_answer=False)
            if request is not None and not any(isinstance(message, ModelRequest) for message in new):
                new.append(request)
            if self.partial is not None:
                new.append(self.partial)
            if new:
                self._record(new, [])
        except Exception:  # noqa: BLE001 - the boundary around a failed agent's messages: its own failure counts
            _log.warning("messages of a failed run not stored", exc_info=True)

    def answers_beside_calls(self, response: ModelResponse) -> bool:
        """Whether some of the calls in a recorded answer carry the agent's answer, and others do not."""
        made = [part for part in response.parts if isinstance(part, ToolCallPart)]
        return len({part.tool_call_id in self.arguments for part in made}) > 1

    def _unrecorded(self, messages: Sequence[ModelMessage], *, has_answer: bool = True) -> list[ModelMessage]:
        """Return the messages that are not recorded yet; ``has_answer`` is whether they end in an answer that is not.

        Their number says nothing: an agent's history processor takes messages out, and may replace them by others.
        """
        if not self._known:
            return list(messages)
        for position in range(len(messages) - 1, -1, -1):
            if id(messages[position]) in self._known:
                return list(messages[position + 1 :])
        # They are other objects now, or are gone: what is recorded ends in an answer.
        before = len(messages) - has_answer
        while before > 0 and not isinstance(messages[before - 1], ModelResponse):
            before -= 1
        return list(messages[before:])

    def _record(self, new: Sequence[ModelMessage], calls: Sequence[ProposedCall]) -> None:
        self._journal.record_turn(self._take(new), calls)

    def _take(self, new: Sequence[ModelMessage]) -> tuple[NewMessage, ...]:
        """Return these messages as they are kept, and count them as recorded."""
        self._recorded += len(new)
        self._known.update({id(message): message for message in new})
        natives = ModelMessagesTypeAdapter.dump_python(list(new), mode="json", fallback=str)
        recorded: list[NewMessage] = []
        for message, native in zip(new, natives, strict=True):
            entries = entries_of(message, self.arguments, self._ids, first=self._first)
            recorded.append(NewMessage(native, entries))
            self._first = False
        return tuple(recorded)

    def _pieces_of(self, event: object) -> Sequence[dict[str, str]]:
        """Return the payloads of the content events that one event of the model's stream makes."""
        match event:
            case PartStartEvent(index=index, part=TextPart(content=text)):
                self._texts[index] = TextJoiner()
                return self._text(self._texts[index].add(text))
            case PartDeltaEvent(index=index, delta=TextPartDelta(content_delta=text)):
                return self._text(self._texts.setdefault(index, TextJoiner()).add(text))
            case PartStartEvent(part=ToolCallPart()):
                self._has_calls = True
            case PartStartEvent(index=index, part=ThinkingPart(content=thought)):
                self._thoughts[index] = TextJoiner()
                return _thought(self._thoughts[index].add(thought))
            case PartDeltaEvent(index=index, delta=ThinkingPartDelta(content_delta=thought)):
                return _thought(self._thoughts.setdefault(index, TextJoiner()).add(thought or ""))
            case PartEndEvent(index=index):
                return self._ends_of(index)
            case _:
                pass
        return ()

    def _text(self, text: str) -> Sequence[dict[str, str]]:
        self.text += text
        return ({"content": text},) if text else ()

    def _ends_of(self, index: int) -> Sequence[dict[str, str]]:
        """Return the half characters that a part ended in."""
        text, thought = self._texts.pop(index, None), self._thoughts.pop(index, None)
        return (
            *(self._text(text.finish()) if text is not None else ()),
            *(_thought(thought.finish()) if thought is not None else ()),
        )


def _thought(thought: str) -> Sequence[dict[str, str]]:
    return ({"content": "", "reasoning": thought},) if thought else ()
