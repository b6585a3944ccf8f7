"""How a run that is ready gets to an executor."""

from __future__ import annotations

from typing import Protocol


class Dispatcher(Protocol):
    """Tells whoever executes runs what became of them. The rows are the truth: what is not heard is found there."""

    def ready(self, run_key: int) -> None:
        """Hear that the run is PENDING, on disk."""
        ...

    def pause_requested(self, run_key: int) -> None:
        """Hear that the run is to pause: whoever executes it should stop before its next call."""
        ...

    def cancelled(self, run_key: int) -> None:
        """Hear that the run was cancelled: whoever executes it should stop soon. It cannot write any more anyway."""
        ...
