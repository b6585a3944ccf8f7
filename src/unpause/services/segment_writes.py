"""What an executing run did since its last commit, and how that is written: each row once, whatever it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unpause.errors import InvalidInput
from unpause.store.approvals import add_approvals
from unpause.store.audit import add_entries
from unpause.store.events import add_events
from unpause.store.journal import add_messages, add_tool_calls, consume_inputs, settle_tool_call
from unpause.store.requirements import add_requirements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from unpause.agents.driver import ProposedCall, Segment
    from unpause.domain.audit import AuditEntry
    from unpause.domain.events import Event
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Message, ToolCall
    from unpause.store.engine.database import Connection

# As the columns have it.
_LONGEST_NAME = 255


@dataclass(slots=True)
class PendingWrites:
    """What happened since the last commit; ``usage`` is all that the run has used up so far."""

    events: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    added: dict[str, ToolCall] = field(default_factory=dict)
    settled: dict[str, ToolCall] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    inputs_consumed: bool = False
    requirements: Sequence[Requirement] = ()
    usage: dict[str, int] | None = None

    def __bool__(self) -> bool:
        return bool(self.events or self.messages or self.added or self.settled or self.audit)

    def write(
        self, connection: Connection, segment: Segment, last: int, now: datetime, large: Mapping[str, ToolCall]
    ) -> tuple[Event, ...]:
        """Write all but the run's own row; the newest event gets the number ``last``.

        ``large`` are the run's calls with large results, written before or now.
        """
        key = segment.run.id
        if self.inputs_consumed:
            consume_inputs(connection, key)
        add_messages(connection, key, self.messages, now, large)
        add_tool_calls(connection, key, self.added.values())
        for call in self.settled.values():
            settle_tool_call(connection, key, call)
        add_entries(connection, self.audit)
        add_requirements(connection, key, self.requirements, len(segment.requirements))
        required = [requirement for requirement in self.requirements if requirement.approval == "required"]
        add_approvals(connection, segment.run, required, now)
        return add_events(connection, key, self.events, last)


def refuse_long_names(calls: Iterable[ProposedCall]) -> None:
    """Raise InvalidInput for a call whose id or name is too long to be kept."""
    for call in calls:
        _refuse_long_name("id", call.tool_call_id)
        _refuse_long_name("name", call.tool_name)


def _refuse_long_name(what: str, name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise InvalidInput(
            f"The model made a tool call with {'an' if what == 'id' else 'a'} {what} of {len(name)} characters: "
            f"more than {_LONGEST_NAME} cannot be kept"
        )
