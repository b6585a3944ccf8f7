"""Connections of psycopg whose transactions wait for a lock no longer than a moment.

``lock_timeout`` is set with the BEGIN of each transaction, in the same round trip. So it costs nothing, and it holds
behind a pooler, too, that hands a server's connection to another client after each transaction.

Loaded only where PostgreSQL is used: psycopg is an extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psycopg import AsyncConnection, Connection, generators
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus

if TYPE_CHECKING:
    from psycopg.abc import PQGen

# Long enough for what others of our own do to a row, short enough that nobody misses the connection meanwhile.
MOMENT_SECONDS = 0.1

_LIMIT = f"SET LOCAL lock_timeout = {MOMENT_SECONDS * 1000:.0f}".encode()


class ImpatientConnection(Connection[Any]):
    """A connection for a thread."""

    def _start_query(self) -> PQGen[None]:
        yield from _begin(self)


class AsyncImpatientConnection(AsyncConnection[Any]):
    """A connection for an event loop."""

    def _start_query(self) -> PQGen[None]:
        yield from _begin(self)


def _begin(connection: Connection[Any] | AsyncConnection[Any]) -> PQGen[None]:
    """Begin a transaction where the connection is in none, as psycopg does, and set the limit."""
    driver = connection.pgconn
    if connection.autocommit or driver.transaction_status != TransactionStatus.IDLE:
        return
    begin = connection._get_tx_start_command()  # noqa: SLF001 - psycopg has no other name for it
    if driver.pipeline_status:
        # There, as in `executemany`, each command is sent by itself, and none waits for the one before.
        for command in (begin, _LIMIT):
            yield from connection._exec_command(command)  # noqa: SLF001
        if connection._pipeline:  # noqa: SLF001
            yield from connection._pipeline._sync_gen()  # noqa: SLF001
        return
    driver.send_query(b"; ".join((begin, _LIMIT)))
    for result in (yield from generators.execute(driver)):
        if result.status == ExecStatus.FATAL_ERROR:
            raise error_from_result(result)
