"""A database of the executor's own, in whose place a test puts what it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unpause.bootstrap import Application


class ExecutorDatabase:
    """What runs of the application write and read with, and nothing else of it; subclasses change what they will."""

    def __init__(self, application: Application) -> None:
        executor = application.executor
        context = executor._context  # noqa: SLF001 - nothing else in the application may meet this database
        self._database = context.database
        own: Any = self
        executor._context = replace(context, database=own)  # noqa: SLF001

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a database has
        return getattr(self._database, name)
