"""What every served agent of the tests can promise: that a block changed nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Unchanging(ABC):
    """A server whose database can be written out, and that notes in ``executed`` what its tools did."""

    executed: list[str]

    @abstractmethod
    async def dump(self) -> object:
        """Return every row that a request could change."""

    @asynccontextmanager
    async def nothing_changes(self) -> AsyncIterator[None]:
        """Fail unless the block leaves every row as it was and runs no tool."""
        before, executed = await self.dump(), list(self.executed)
        yield
        assert await self.dump() == before
        assert self.executed == executed
