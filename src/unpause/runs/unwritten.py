"""What an executing run did since its last commit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.domain.audit import AuditEntry
    from unpause.domain.events import Event
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Message, ToolCall


@dataclass(slots=True)
class Unwritten:
    """What happened since the last commit."""

    events: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    added: dict[str, ToolCall] = field(default_factory=dict)
    settled: dict[str, ToolCall] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    inputs_consumed: bool = False
    requirements: Sequence[Requirement] = ()

    def __bool__(self) -> bool:
        return bool(self.events or self.messages or self.added or self.settled or self.audit)
