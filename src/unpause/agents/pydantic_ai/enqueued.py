"""Keeps what an agent's code enqueues for the model until that has been sent: a pause or crash may come before."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import structlog
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_core import to_json

from unpause.domain.storable import replace_unstorable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.run import AgentRun

    from unpause.agents.driver import CallResult
    from unpause.domain.runs import ToolCall

_log = structlog.get_logger(__name__)

_KEY = "enqueued"
# Among the metadata of the agent's own.
_KEY_OF_ANSWER = "unpause_enqueued"


class Enqueued:
    """The messages that wait in one segment's run for its next request, or for the run's end.

    They are recorded with the model's next answer, whose hooks may have enqueued them, or with the end of the next call
    that ends, which mostly is the one that did.
    """

    def __init__(self, max_bytes: int) -> None:
        """``max_bytes`` of JSON are kept of what waits when a call ends."""
        self._max_bytes = max_bytes
        self._run: AgentRun[Any, Any] | None = None
        self._seen: set[str] = set()
        self._kept: dict[str, list[dict[str, Any]]] = {}

    def follow(self, run: AgentRun[Any, Any] | None) -> None:
        """Take the run whose messages are kept, or let go of it."""
        self._run = run

    def restore(self, run: AgentRun[Any, Any], answers: Iterable[dict[str, Any]], calls: Iterable[ToolCall]) -> None:
        """Enqueue once more what earlier segments have enqueued and no model was sent.

        ``answers`` are the run's messages as they are kept.
        """
        found = [kept for answer in answers if (kept := (answer.get("metadata") or {}).get(_KEY_OF_ANSWER))]
        for call in calls:
            kept = call.result.get(_KEY) if isinstance(call.result, dict) else None
            if kept:
                self._kept[call.tool_call_id] = kept
                found.append(kept)
        known = _stamps(run.all_messages()) if found else set()
        for item in chain.from_iterable(found):
            messages = ModelMessagesTypeAdapter.validate_python(item["messages"])
            if known.isdisjoint(_stamps(messages)):
                enqueue_id = run.enqueue(*messages, priority=item["priority"])
                self._seen.add(enqueue_id or "")

    def add_to_answer(self, answer: ModelResponse) -> None:
        """Put what was enqueued since the last call ended into the answer's metadata, which no model is sent."""
        if added := self._take_new():
            answer.metadata = {**(answer.metadata or {}), _KEY_OF_ANSWER: added}

    def add_to(self, call_id: str, result: CallResult) -> CallResult:
        """Return the result with what was enqueued since the last call ended."""
        if added := self._take_new():
            self._kept[call_id] = [*self._kept.get(call_id, ()), *added]
        kept = self._kept.get(call_id)
        if not kept:
            return result
        # What a tool raised is in the text.
        value = result.value if isinstance(result.value, dict) else {"kind": "error"}
        return replace(result, value={**value, _KEY: kept})

    def _take_new(self) -> list[dict[str, Any]]:
        """Return what was enqueued since it was asked for last, as it is kept."""
        new = [item for item in self._run.pending_messages if item.enqueue_id not in self._seen] if self._run else ()
        if not new:
            return []
        self._seen.update(item.enqueue_id for item in new)
        added = [
            {"priority": item.priority, "messages": ModelMessagesTypeAdapter.dump_python(item.messages, mode="json")}
            for item in new
        ]
        if len(to_json(added)) > self._max_bytes:
            _log.warning("enqueued messages are not kept over a pause: too large")
            return []
        return replace_unstorable(added)


def _stamps(messages: Sequence[ModelMessage]) -> set[object]:
    """Return what tells the parts of requests apart: their kinds and when they were made, to the microsecond."""
    parts = [part for message in messages if message.kind == "request" for part in message.parts]
    return {
        (part.part_kind, timestamp) for part in parts if (timestamp := getattr(part, "timestamp", None)) is not None
    }
