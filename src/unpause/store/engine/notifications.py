"""PostgreSQL's LISTEN and NOTIFY: signals between the processes that share a database."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, bindparam, func, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from unpause.store.engine.failures import database_errors
from unpause.store.engine.revisions import session_name
from unpause.store.engine.servers import connection_arguments
from unpause.store.engine.silence import connecting
from unpause.store.engine.statements import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sqlalchemy.engine import URL, Connection

_CHANNEL = "unpause"
# The connection in pg_stat_activity.
_NAME = session_name("listener")
_NOTIFY = Statement(select(func.pg_notify(bindparam("channel", type_=String), bindparam("payload", type_=String))))

# Of whatever release: only what follows in the name changes. Every role may see the names of others' connections.
_COUNT = text(
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND application_name LIKE 'unpause listener %'"
)

# A server that is gone without closing the connection is noticed after this many seconds.
_SILENCE_SECONDS = 5.0

# PostgreSQL takes up to 8,000 bytes.
LONGEST_PAYLOAD = 7_500


def notify(connection: Connection, payload: str) -> None:
    """Send the payload to all listeners, once the transaction is committed."""
    _NOTIFY.send(connection, {"channel": _CHANNEL, "payload": payload})


def count_listeners(connection: Connection) -> int:
    """Return how many connections of servers listen in this database, or are about to."""
    return int(connection.execute(_COUNT).scalar_one())


async def listen(url: URL, silent_seconds: float | None = None) -> AsyncGenerator[str | None]:
    """Yield None once it listens and whenever there was no notification for a while, else each payload.

    Raises DatabaseUnavailable when the connection is lost, or the server is silent for longer than ``silent_seconds``
    when it is asked whether it is there. LISTEN belongs to a session: a pooler must not share it.
    """
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        poolclass=NullPool,
        connect_args={
            **connection_arguments(url, application_name=_NAME),
            # While it listens a server is silent for as long as it has nothing to say.
            "async_creator_fn": connecting(silent_seconds and silent_seconds + _SILENCE_SECONDS),
        },
    )
    try:
        with database_errors():
            async with engine.connect() as connection:
                await connection.exec_driver_sql(f"LISTEN {_CHANNEL}")
                driver: Any = (await connection.get_raw_connection()).driver_connection
                yield None
                while True:
                    async with aclosing(driver.notifies(timeout=_SILENCE_SECONDS)) as notifications:
                        async for notification in notifications:
                            yield notification.payload
                    await connection.exec_driver_sql("SELECT 1")
                    yield None
    finally:
        await engine.dispose()
