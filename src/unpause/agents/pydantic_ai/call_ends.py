"""Records how calls end: what the tool gave as soon as it has, and then what the agent's own hooks make of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError
from pydantic_ai.exceptions import ModelRetry, ToolFailed

from unpause.agents.containment import describe_error
from unpause.agents.driver import CallResult
from unpause.agents.pydantic_ai.enqueued import Enqueued
from unpause.agents.pydantic_ai.iterators import read_iterators
from unpause.agents.pydantic_ai.results import (
    record_of,
    restore,
    result_of,
    storable_text,
    unprocessed,
)
from unpause.domain.runs import CallStatus, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from unpause.agents.driver import Journal
    from unpause.agents.redaction import Redaction
    from unpause.domain.runs import ToolCall


class CallEnds:
    """The ends of one segment's calls, with what their tools have ``enqueued`` for the model.

    With ``has_hooks`` the agent has code of its own between the tools and the model, which may hide what a tool gave:
    people and models are shown what comes out of that. A server that is killed meanwhile has it run again, not the
    tool. ``known`` are the ids of the calls that the journal has.
    """

    def __init__(
        self,
        journal: Journal,
        redaction: Redaction,
        max_result_bytes: int,
        known: Collection[str],
        *,
        has_hooks: bool,
    ) -> None:
        self._journal = journal
        self._redaction = redaction
        self._max_result_bytes = max_result_bytes
        self._known = known
        self._has_hooks = has_hooks
        self.enqueued = Enqueued(max_result_bytes)
        self._unprocessed: dict[str, tuple[CallResult, Callable[[], Redaction]]] = {}

    def find(self, call_id: str, recorded: ToolCall | None) -> CallResult | None:
        """Return what the tool of the call gave in this segment, or in an earlier one; None where it has not run."""
        if call_id in self._unprocessed:
            return self._unprocessed[call_id][0]
        if recorded is None or recorded.status is not CallStatus.FINISHED:
            return None
        result = result_of(recorded)
        if recorded.is_unprocessed:
            self._unprocessed[call_id] = result, lambda: self._redaction
        return result

    def knows(self, call_id: str) -> bool:
        """Whether the model has made the call, and not another tool."""
        return call_id in self._known

    def has_run(self, call_id: str) -> bool:
        """Whether the tool has run and what it gave is still to be processed."""
        return call_id in self._unprocessed

    def record(self, call_id: str, result: CallResult, redaction: Callable[[], Redaction]) -> None:
        """Record what the tool gave; ``redaction`` is what hides the secrets of the call."""
        if self._has_hooks:
            self._unprocessed[call_id] = result, redaction
            result = unprocessed(result)
        self._journal.finish_call_soon(call_id, self.enqueued.add_to(call_id, result))

    def fail(self, call_id: str, error: BaseException, redaction: Callable[[], Redaction]) -> str:
        """Record what the tool raised; return it without secrets, as the model may see it."""
        result = self._describe(error, redaction())
        self.record(call_id, result, redaction)
        return result.text

    async def process(self, call_id: str, returned: object) -> object:
        """Record what the hooks made of a result, or gave in its place; return it as the record has it.

        Raises ToolFailed for one that is too large or too deep to be kept, and what an iterator in it raises.
        """
        has_run = call_id in self._unprocessed
        if not has_run and not (self._has_hooks and call_id in self._known):
            return returned
        try:
            returned = await read_iterators(returned, self._max_result_bytes)
        except Exception as error:  # the boundary around an author's iterators
            self.process_error(call_id, error)
            raise
        result = await record_of(returned, self._max_result_bytes)
        if has_run:
            self._finish(call_id, result)
        else:
            self._journal.settle_call(call_id, result)
        return restore(result)

    def process_error(self, call_id: str, error: Exception) -> None:
        """Record what the hooks raised; where it is only how the framework passes on what the tool raised, that."""
        if call_id not in self._unprocessed:
            return
        result, redaction = self._unprocessed[call_id]
        if result.outcome is Outcome.SUCCESS or isinstance(error, ModelRetry | ToolFailed | ValidationError):
            result = self._describe(error, redaction())
        self._finish(call_id, result)

    def _finish(self, call_id: str, result: CallResult) -> None:
        del self._unprocessed[call_id]
        self._journal.finish_call_soon(call_id, self.enqueued.add_to(call_id, result))

    def _describe(self, error: BaseException, redaction: Redaction) -> CallResult:
        outcome = Outcome.RETRIED if isinstance(error, ModelRetry | ValidationError) else Outcome.FAILED
        text = redaction.hide(storable_text(describe_error(error), self._max_result_bytes))
        return CallResult(outcome, text, text)
