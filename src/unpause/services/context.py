"""What the services are built from, and how they announce a run to its executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import timedelta

    from unpause.agents.registry import AgentRegistry
    from unpause.clock import Clock, Ids
    from unpause.services.claims import Slot
    from unpause.services.quotas import Limits
    from unpause.store.engine.database import Database
    from unpause.store.unreadable import UnreadableRows
    from unpause.streaming.bus import Bus
    from unpause.vault import Vault


class Dispatcher(Protocol):
    """Announces runs to their executors. The rows are the truth: what is not announced is found there."""

    def ready(self, run_key: int) -> None:
        """Announce that the run is PENDING and committed."""
        ...

    def reserving(self) -> AbstractContextManager[Slot | None]:
        """Reserve a slot of this process for the block, which accepts a request; None where no slot is free.

        What the block leaves as ``claimed`` there is executed at once: not where it raises an error, for then it is
        not committed.
        """
        ...

    def pause_requested(self, run_key: int) -> None:
        """Have the run's segment stop before its next call, wherever it runs."""
        ...

    def cancelled(self, run_key: int) -> None:
        """Have the run's segment stop soon, wherever it runs; it cannot write any more."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What the services are built from."""

    database: Database
    bus: Bus
    dispatcher: Dispatcher
    agents: AgentRegistry
    clock: Clock
    ids: Ids
    vault: Vault
    limits: Limits
    unreadable: UnreadableRows
    node_patience: timedelta
