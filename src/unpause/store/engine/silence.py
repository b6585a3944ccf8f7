"""A PostgreSQL that falls silent within a statement: its connection is closed, and the caller learns that it is away.

A machine that is frozen, and a network that drops everything, close no connection, and the kernel of a frozen process's
machine even answers for it. Without a limit what is under way would wait until it goes on.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import AsyncConnection, Connection
from psycopg.errors import OperationalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from psycopg.pq.abc import PGconn
    from psycopg.waiting import Ready, Wait

T = TypeVar("T")

# Between two looks at how long the server has been silent; psycopg itself looks ten times a second.
_LONGEST_INTERVAL = 1.0
_PART_OF_SILENCE = 0.1


class AsyncLimitedConnection(AsyncConnection[Any]):
    """A connection that gives a silent server up.

    ``silent_since`` is when the next statement began to wait, such as for this connection; None is when it is sent.
    """

    longest_silence: float | None = None
    silent_since: float | None = None

    async def wait(self, gen: Generator[Wait, Ready | int, T], *args: Any, **options: Any) -> T:  # noqa: ANN401 - psycopg's own
        """Do as psycopg; raise OperationalError once the server was silent for too long."""
        seconds, since, self.silent_since = self.longest_silence, self.silent_since, None
        options = {"interval": _interval(seconds), **options}
        return await super().wait(_limit(gen, self.pgconn, seconds, since), *args, **options)


class _Connection(Connection[Any]):
    longest_silence: float | None = None

    def wait(self, gen: Generator[Wait, Ready | int, T], *args: Any, **options: Any) -> T:  # noqa: ANN401 - psycopg's own
        return super().wait(_limit(gen, self.pgconn, self.longest_silence), *args, **options)


def connecting(silent_seconds: float | None) -> Callable[..., Awaitable[AsyncConnection[Any]]]:
    """Return what connects for asyncio, to a server that may be silent for so long; None is forever."""

    async def connect(conninfo: str = "", **options: Any) -> AsyncConnection[Any]:  # noqa: ANN401 - psycopg's own
        connection = await AsyncLimitedConnection.connect(conninfo, **options)
        connection.longest_silence = silent_seconds
        return connection

    return connect


def connect(silent_seconds: float | None, conninfo: str = "", **options: Any) -> Connection[Any]:  # noqa: ANN401 - psycopg's own
    """Connect in this thread, to a server that may be silent for so long."""
    connection = _Connection.connect(conninfo, **options)
    connection.longest_silence = silent_seconds
    return connection


def _interval(silent_seconds: float | None) -> float:
    """Return how often to look: what arrives wakes at once, so an idle listener rarely has to."""
    return _LONGEST_INTERVAL if silent_seconds is None else min(_LONGEST_INTERVAL, silent_seconds * _PART_OF_SILENCE)


def current_moment() -> float:
    """Return the present moment, as ``AsyncLimitedConnection.silent_since`` has it."""
    return monotonic()


def _limit(
    gen: Generator[Wait, Ready | int, T], libpq: PGconn, seconds: float | None, since: float | None = None
) -> Generator[Wait, Ready | int, T]:
    """Do as ``gen``, which psycopg resumes some times a second; give up once nothing was received for too long.

    What was sent may be executed all the same, perhaps much later.
    """
    if seconds is None:
        return (yield from gen)
    received_at = monotonic() if since is None else since
    try:
        events = next(gen)
        while True:
            ready = yield events
            if ready:
                received_at = monotonic()
            elif monotonic() - received_at > seconds:
                libpq.finish()
                raise OperationalError(f"the server has sent nothing for {seconds:g} seconds: connection closed")
            events = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result
