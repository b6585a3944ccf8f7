"""PostgreSQL's locks around a migration: one migration at a time, and no long queue behind what it wants to lock.

A statement that waits for a table has everybody else wait behind it. So it waits for a short time, gives up, lets the
others pass, and is tried again.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from time import sleep
from typing import TYPE_CHECKING, Final, TypeVar

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from unpause.operator_settings import DEFAULT_LOCK_SECONDS
from unpause.store.engine.failures import DEADLOCK, LOCK_NOT_AVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import Connection, Engine

T = TypeVar("T")

# How often a migration is tried whose tables others hold.
ATTEMPTS: Final = 10
_LOOK_AGAIN_SECONDS: Final = 0.2
_TAKE: Final = text("SELECT pg_try_advisory_xact_lock(7264)")


def lock_seconds() -> float:
    """Return how long a statement of a migration waits: half of what a request does, which may wait behind it."""
    return float(os.environ.get("UNPAUSE_LOCK_TIMEOUT_SECONDS", DEFAULT_LOCK_SECONDS)) / 2


def limit_lock_waits(engine: Engine) -> None:
    """Have each transaction wait for a lock for a short time, but be idle for as long as it likes."""
    limit = f"SET LOCAL lock_timeout = {max(1, round(lock_seconds() * 1000))}"

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"{limit}; SET LOCAL idle_in_transaction_session_timeout = 0")


@contextmanager
def only_migration(engine: Engine, report: Callable[[str], None] | None) -> Iterator[None]:
    """Be the only one to migrate during the block; wait while another does.

    The lock is that of a transaction of its own, which ends with this process. To wait within PostgreSQL would be a
    statement under way, and to create an index concurrently means to wait for the end of all such statements.
    """
    # Another isolation would keep a snapshot, for whose end an index waits as well.
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        while not connection.execute(_TAKE).scalar():
            connection.rollback()
            if report is not None:
                report("another process is changing the schema: waiting for its end")
                report = None
            sleep(_LOOK_AGAIN_SECONDS)
        yield


def retry_locked(work: Callable[[], T], report: Callable[[str], None] | None) -> T:
    """Return the result of ``work``, which is tried again while other transactions hold its tables."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in {LOCK_NOT_AVAILABLE, DEADLOCK}:
                raise
            if report is not None:
                report("another transaction holds a table: trying again")
        # As long as it waited: meanwhile those behind it pass.
        sleep(lock_seconds())
    return work()
