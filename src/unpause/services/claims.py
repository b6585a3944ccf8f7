"""Claims runs: in the transaction that accepts a request, where this process has a free slot, or for a worker later."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unpause.agents.driver import Segment
from unpause.domain.event_payloads import with_requirements
from unpause.domain.runs import RunInput
from unpause.store.journal import list_inputs, list_tool_calls
from unpause.store.requirements import list_requirements
from unpause.store.sessions import list_conversation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from unpause.domain.nodes import ServedAgents
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Message, Run, ToolCall
    from unpause.store.engine.database import Connection


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Whose runs a process claims, for how long at first, and how many earlier runs of a session their models read."""

    served: ServedAgents
    lease: timedelta
    history_runs: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this process holds; ``messages`` are those of the segment, with what clients are shown of them."""

    segment: Segment
    messages: tuple[Message, ...] = ()


@dataclass(slots=True)
class Slot:
    """A place for one more segment in this process, reserved while a request is accepted.

    The accepting transaction sets ``claimed``, each time that it is tried, where it claims the run. It is executed once
    the transaction ``is_committed`` and the request has been accepted, or nobody waits for that any more.
    """

    rules: ClaimRules
    claimed: Claimed | None = field(default=None)
    is_committed: bool = False
    execute: Callable[[Claimed | None], None] | None = None

    def commit(self) -> bool:
        """Note that the transaction is committed; return whether it has claimed a run."""
        self.is_committed = True
        if self.execute is not None:
            self.execute(self.claimed)
        return self.claimed is not None

    def fits(self, agent_id: str, source_type: str) -> bool:
        """Whether runs of this agent, from this source, are executed here."""
        return self.rules.served.serves(agent_id, source_type)

    def take_new(self, connection: Connection, run: Run, first: RunInput, *, in_new_session: bool) -> None:
        """Keep a run that this transaction has created, claimed."""
        history: Sequence[Any] = ()
        if not in_new_session:
            history, _ = list_conversation(connection, run.session_key, run.id, self.rules.history_runs)
        self.claimed = Claimed(Segment(run, tuple(history), inputs=(first,)))

    def take_continued(
        self,
        connection: Connection,
        run: Run,
        calls: Sequence[ToolCall],
        requirements: Sequence[Requirement],
        *,
        has_inputs: bool,
    ) -> None:
        """Keep a run that this transaction has continued and claimed, with its calls and requirements as of now."""
        inputs = list_inputs(connection, run.id) if has_inputs else ()
        self.claimed = load_segment(connection, run, self.rules.history_runs, (calls, requirements, inputs))


def load_claimed(connection: Connection, run: Run, history_runs: int) -> Claimed:
    """Read what the claimed run has to go on from."""
    inputs = list_inputs(connection, run.id)
    if run.fence == 1:
        return load_segment(connection, run, history_runs, ((), (), inputs))
    calls = list_tool_calls(connection, run.id)
    return load_segment(connection, run, history_runs, (calls, list_requirements(connection, run.id), inputs))


def load_segment(
    connection: Connection,
    run: Run,
    history_runs: int,
    known: tuple[Sequence[ToolCall], Sequence[Requirement], Sequence[RunInput]],
) -> Claimed:
    """Read the rest of what the run has to go on from, besides its calls, requirements and inputs that were added."""
    calls, requirements, inputs = known
    history, messages = list_conversation(connection, run.session_key, run.id, history_runs)
    segment = Segment(
        run=run,
        history=history,
        messages=tuple(message.native for message in messages),
        calls=with_requirements(calls, requirements),
        requirements=tuple(requirements),
        inputs=_unread(run, inputs, has_messages=bool(messages)),
    )
    return Claimed(segment, messages)


def _unread(run: Run, added: Sequence[RunInput], *, has_messages: bool) -> tuple[RunInput, ...]:
    """Return the user's input that no message to the model carries yet: its first message carries the run's prompt."""
    later = tuple(item for item in added if item.position > 0 and not item.consumed)
    if has_messages:
        return later
    first = next((item for item in added if item.position == 0), RunInput(0, run.prompt))
    return (first, *later)
