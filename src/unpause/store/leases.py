"""Renews leases on a connection of its own that needs no event loop."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from time import sleep
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from unpause.errors import DatabaseUnavailable
from unpause.operator_settings import DEFAULT_IDLE_SECONDS
from unpause.store.engine.failures import database_errors
from unpause.store.engine.postgres import begin_statements
from unpause.store.engine.servers import connection_arguments
from unpause.store.engine.silence import connect
from unpause.store.nodes import keep_node, remove_node
from unpause.store.run_queue import list_held, renew_leases

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import timedelta

    from sqlalchemy.engine import URL, Connection

    from unpause.domain.nodes import Node

# Between tries at rows that were locked. A busy process writes to each of its runs much of the time, but to none of
# them all the time.
_LOOK_AGAIN_SECONDS = (0.02, 0.04, 0.08, 0.16, 0.32, 0.0)


class LeaseKeeper:
    """One connection of one thread."""

    def __init__(
        self, url: URL, idle_seconds: float = DEFAULT_IDLE_SECONDS, silent_seconds: float | None = None
    ) -> None:
        self._engine = create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            connect_args=connection_arguments(url),
        )

        @event.listens_for(self._engine, "do_connect")
        def on_connect(_dialect: object, _record: object, arguments: list[Any], options: dict[str, Any]) -> object:
            return connect(silent_seconds, *arguments, **options)

        self._begin = "; ".join(begin_statements(idle_seconds))

    def renew(self, held: Collection[tuple[int, int]], lease: timedelta) -> set[int]:
        """Renew the leases of runs, each with its fence, for ``lease``; return the runs that are still held.

        Takes less than a second: a run whose row is locked all that time is held, but not renewed. Nobody else can take
        it either, and to wait for it, or for one row while others are locked, would cost the others their leases.
        Raises DatabaseUnavailable.
        """
        kept: set[int] = set()
        missing = set(held)

        def unit(connection: Connection) -> set[tuple[int, int]]:
            renewed = renew_leases(connection, missing, lease, datetime.now(UTC))
            kept.update(renewed)
            busy = {(run_key, fence) for run_key, fence in missing if run_key not in renewed}
            return list_held(connection, busy) if busy else busy

        for seconds in _LOOK_AGAIN_SECONDS:
            with self._transaction() as connection:
                missing = unit(connection)
            if not missing:
                break
            sleep(seconds)
        return kept | {run_key for run_key, _ in missing}

    def keep_node(self, node: Node) -> None:
        """Write that this process is alive, and which agents it serves. Raises DatabaseUnavailable."""
        with self._transaction() as connection:
            keep_node(connection, node)

    def remove_node(self, node: Node) -> None:
        """Write that this process is about to end. Raises DatabaseUnavailable."""
        with self._transaction() as connection:
            remove_node(connection, node.id)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with database_errors(), self._engine.begin() as connection:
                connection.exec_driver_sql(self._begin)
                yield connection
        except DatabaseUnavailable:
            # Another server may be the primary now.
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()
