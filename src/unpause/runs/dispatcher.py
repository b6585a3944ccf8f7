"""How a run that is ready gets to an executor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from unpause.store.database import Connection


class Dispatcher(Protocol):
    """Takes runs that have become PENDING to whoever executes them."""

    def enqueue(self, connection: Connection, run_key: int, fence: int) -> None:
        """Note, inside the transaction that made it PENDING, that the run is ready under this fence."""
        ...

    def committed(self, run_key: int) -> None:
        """Hear that this transaction is on disk."""
        ...

    def pause_requested(self, run_key: int) -> None:
        """Hear that the run is to pause: whoever executes it should stop before its next call."""
        ...

    def cancelled(self, run_key: int) -> None:
        """Hear that the run was cancelled: whoever executes it should stop soon. It cannot write any more anyway."""
        ...
