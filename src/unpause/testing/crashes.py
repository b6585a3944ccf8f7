"""Agents whose process dies while a tool runs: what was committed by then stays, and nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.testing.scripts import ScriptPosition, current_position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic_ai import Agent

    from unpause.agents.driver import (
        CallResult,
        Journal,
        NewMessage,
        ProposedCall,
        RequirementRequest,
        Segment,
        SegmentEnd,
    )
    from unpause.agents.pydantic_ai.driver import DriverOptions


@dataclass(slots=True)
class CrashPoint:
    """Where the process dies: when the tool has been noted as started, or ``after`` it has returned."""

    tool: str
    after: bool
    keep_database: Callable[[], None]
    happened: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Watch:
    """What the agents of a server and its test share: where to crash, and what was wrong with the script."""

    crash: CrashPoint | None = None
    problems: list[str] = field(default_factory=list)

    async def pass_by(self, tool: str | None, *, after: bool) -> None:
        """Die here, for good, if this is where the process dies."""
        crash = self.crash
        if crash is None or crash.tool != tool or crash.after is not after:
            return
        if not crash.happened.is_set():
            crash.keep_database()
            crash.happened.set()
        # Until the server that this stands for is taken away.
        await asyncio.Event().wait()


class WatchedDriver(PydanticAIDriver):
    """A driver that knows how far its runs are in the script, and dies where the test says."""

    def __init__(self, agent: Agent[Any, Any], options: DriverOptions, watch: Watch) -> None:
        super().__init__(agent, options)
        self._watch = watch

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Go on with the run."""
        answers = [message for message in segment.messages if message.get("kind") == "response"]
        position = ScriptPosition(len(answers))
        token = current_position.set(position)
        try:
            mortal = _MortalJournal(journal, segment, self._watch)
            end = await super().run_segment(segment, cast("Journal", mortal))
            # A segment that pauses sends no further model request.
            await mortal.flush()
            return end
        finally:
            current_position.reset(token)
            if position.problem is not None:
                self._watch.problems.append(position.problem)


class _MortalJournal:
    """A journal that passes by the crash point when a tool starts, and when it has returned."""

    def __init__(self, journal: Journal, segment: Segment, watch: Watch) -> None:
        self._journal = journal
        self._watch = watch
        self._tools = {call.tool_call_id: call.tool_name for call in segment.calls}
        self._returned: list[tuple[str, CallResult]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the journal has
        return getattr(self._journal, name)

    def record_turn(self, messages: Sequence[NewMessage], calls: Sequence[ProposedCall]) -> None:
        self._tools.update({call.tool_call_id: call.tool_name for call in calls})
        self._journal.record_turn(messages, calls)

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        await self._journal.start_call(call_id, idempotent=idempotent)
        await self._watch.pass_by(self._tools.get(call_id), after=False)

    async def start_granted_call(self, request: RequirementRequest, *, idempotent: bool) -> bool:
        is_started = await self._journal.start_granted_call(request, idempotent=idempotent)
        if is_started:
            await self._watch.pass_by(self._tools.get(request.call_id), after=False)
        return is_started

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        await self._watch.pass_by(self._tools.get(call_id), after=True)
        await self._journal.finish_call(call_id, result)

    def finish_call_soon(self, call_id: str, result: CallResult) -> None:
        self._returned.append((call_id, result))

    async def flush(self) -> None:
        while self._returned:
            await self.finish_call(*self._returned.pop(0))
        await self._journal.flush()
