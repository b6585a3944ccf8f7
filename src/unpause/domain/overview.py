"""The state of an organization's runs at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from unpause.domain.runs import RunStatus


@dataclass(frozen=True, slots=True)
class Waiting:
    """The open requirement that has waited longest."""

    requirement_id: str
    run_id: str
    agent_id: str
    tool_name: str
    since: datetime


@dataclass(frozen=True, slots=True)
class DecidedRequirement:
    """A requirement that somebody decided, and since when it had waited."""

    at: datetime
    since: datetime | None
    by_server: bool


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that executes runs, when it was last seen, and how many runs it executed then; None where unknown."""

    name: str
    version: str
    agents: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    is_alive: bool
    running: int | None


@dataclass(frozen=True, slots=True)
class FailingWebhook:
    """A server that webhooks could not be delivered to: those still tried, and those given up."""

    server: str
    retrying: int
    given_up: int
    last_error: str
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Hour:
    """What happened in an hour: the runs created in it by their present status, and the decisions."""

    at: datetime
    runs: dict[RunStatus, int] = field(default_factory=dict)
    decided: int = 0


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything at one moment.

    ``statuses`` counts all runs that have not ended, and of those that have the ones created in the ``hours``.
    ``waits`` are the seconds that the newest decisions of the last day took, in ascending order. ``workers`` and
    ``webhooks`` are None for callers who are no administrators.
    """

    at: datetime
    statuses: dict[RunStatus, int]
    hours: Sequence[Hour]
    waits: Sequence[float]
    decided_today: int
    oldest_waiting: Waiting | None
    workers: Sequence[Worker] | None
    webhooks: Sequence[FailingWebhook] | None

    def wait_at(self, share: float) -> float | None:
        """Return the seconds that this share of the decisions took at most; None without decisions."""
        if not self.waits:
            return None
        return self.waits[min(len(self.waits) - 1, int(share * len(self.waits)))]
