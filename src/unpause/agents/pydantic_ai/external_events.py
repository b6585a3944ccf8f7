"""Pydantic AI's external events: what would wait in this process waits as requirements, in the database."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic_ai.capabilities import RequestInput
from pydantic_ai.exceptions import UserError
from pydantic_ai.external_events import ExternalEventError, ExternalEventWaiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pydantic import JsonValue
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.messages import ToolCallPart

_ELSEWHERE = (
    "Only a handler of deferred tool calls, such as RequestInput, can wait for an external event here: "
    "in a tool raise CallDeferred, and the run waits for the result without a process"
)


class LeftToPeople(Exception):
    """A handler of deferred calls waits for an event: the calls wait for people instead."""


class RowWaiter(ExternalEventWaiter):
    """Has what a handler of deferred calls waits for answered as those calls are, by people.

    The handler's ``ask`` is called with a token, ``run_id:name:tool_call_id``, which is the same when a segment that
    was cut off begins again. Where ``ask`` answers, that counts; otherwise the segment pauses, and the answers to the
    calls come with a continue, in this process or in another one. ``timeout`` is the shortest time, in seconds, that a
    handler waits for since ``handling`` began.
    """

    def __init__(self, run_id: str) -> None:
        self.timeout: float | None = None
        self._run_id = run_id
        self._call_id: str | None = None
        self._names: set[str] = set()

    @contextmanager
    def handling(self, root: AbstractCapability[object], calls: list[ToolCallPart]) -> Iterator[None]:
        """Let handlers wait during the block, in which ``root`` is offered these calls."""
        self.timeout, self._call_id = None, calls[0].tool_call_id
        self._names = set()
        root.apply(self._find_name)
        try:
            yield
        finally:
            self._call_id = None

    async def wait(
        self,
        name: str,
        *,
        ask: Callable[[str], Awaitable[JsonValue]],
        timeout: timedelta | None,  # noqa: ASYNC109 - the library's
    ) -> JsonValue:
        """Return the answer that ``ask`` gives at once, or that there is none yet; raise LeftToPeople for a handler.

        Raises ExternalEventError where ``ask`` takes longer than the timeout, UserError outside of a handler.
        """
        if self._call_id is None:
            raise UserError(_ELSEWHERE)
        seconds = None if timeout is None else timeout.total_seconds()
        try:
            async with asyncio.timeout(seconds) as limit:
                answer = await ask(f"{self._run_id}:{name}:{self._call_id}")
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise ExternalEventError(f"No resolution arrived within {timeout}.") from error
        if answer is not None:
            return answer
        if seconds is not None:
            self.timeout = min(seconds, self.timeout or seconds)
        if name not in self._names:
            raise LeftToPeople
        # A decision about none of the calls.
        return {}

    def _find_name(self, capability: AbstractCapability[object]) -> None:
        if isinstance(capability, RequestInput):
            self._names.add(capability.name)
