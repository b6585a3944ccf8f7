"""What a transaction changed: for the log, the metrics and the traces, and for deliverers, once it is committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from unpause.domain.runs import Run
from unpause.domain.transitions import Trigger


@dataclass(frozen=True, slots=True)
class RunChange:
    """The run after a trigger; without one it was created. ``claimed`` where the same statement also claimed it.

    ``details`` are for the log: names and numbers, no texts of a model and no values of a call.
    """

    run: Run
    trigger: Trigger | None = None
    claimed: bool = False
    details: dict[str, Any] = field(default_factory=dict)


class Outbox(StrEnum):
    """Where messages are stored with the change that they describe, until they are delivered."""

    WEBHOOK = "webhook"
    NOTIFICATION = "notification"


OnChanges: TypeAlias = Callable[[Sequence[RunChange]], None]
