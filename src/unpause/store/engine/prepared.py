"""PostgreSQL: which statements a connection has prepared, so that the server parses and plans each of them once.

A pooler that hands the server's connections round between clients would lose them. It is recognized when the connection
is made; where it is not, what the server then refuses is a reason to do without. Names are made of the text, so that a
statement which another client has prepared is none but the same.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from unpause.store.engine.failures import TransactionAborted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg.errors import Error
    from psycopg.pq.abc import PGconn

# On one connection; each takes about 50 KB of the memory of the server.
_MOST: Final = 200
# An INSERT of many rows has one text for each number of them.
_MOST_PARAMETERS: Final = 100
# The server has no such statement, or already has one of this name: another client's, behind a pooler.
_NOT_OURS: Final = ("26000", "42P05")
# A column of another type, since a migration; the state alone may mean anything that is not supported.
_CHANGED: Final = ("0A000", "RevalidateCachedQuery")


class StatementsOutdated(TransactionAborted):
    """The server could not execute what this connection has prepared; the transaction can be run again at once."""


class Command(NamedTuple):
    """A statement with its parameters, as libpq takes them."""

    text: str
    parameters: Sequence[Any] = ()
    types: tuple[int, ...] = ()
    formats: Sequence[Any] = ()

    def send(self, libpq: PGconn) -> None:
        """Send it as it is."""
        libpq.send_query_params(self.text.encode(), self.parameters, self.types, self.formats)


class PreparedStatements:
    """The statements that were prepared on one connection, by name. None are, unless ``is_enabled``."""

    def __init__(self) -> None:
        self.is_enabled = False
        self._names: set[bytes] = set()
        self._are_outdated = False

    def send(self, libpq: PGconn, commands: Sequence[Command]) -> list[bytes | None]:
        """Send the commands in a pipeline; return of each result the name that it prepares, or None for a command's."""
        results: list[bytes | None] = []
        for command in commands:
            if not self.is_enabled or len(command.parameters) > _MOST_PARAMETERS:
                command.send(libpq)
            else:
                name, text = _named(command.text, command.types)
                if name not in self._names and name not in results:
                    libpq.send_prepare(name, text, command.types)
                    results.append(name)
                libpq.send_query_prepared(name, command.parameters, command.formats)
            results.append(None)
        return results

    def add(self, names: Iterable[bytes]) -> None:
        """Note that these are prepared."""
        self._names.update(names)

    def note_failure(self, error: Error) -> bool:
        """Return whether it came of what was prepared; then all of that is outdated."""
        if error.sqlstate in _NOT_OURS:
            self.is_enabled = False
        elif (error.sqlstate, error.diag.source_function) != _CHANGED:
            return False
        self._are_outdated = True
        return True

    def forget_outdated(self) -> Command | None:
        """Forget all that are outdated, or too many; return what has the server forget them, too."""
        if not self._are_outdated and len(self._names) <= _MOST:
            return None
        self._names.clear()
        self._are_outdated = False
        return Command("DEALLOCATE ALL") if self.is_enabled else None


@lru_cache(maxsize=1000)
def _named(text: str, types: tuple[int, ...]) -> tuple[bytes, bytes]:
    """Return a name for a statement with parameters of these types, and its text as it is sent."""
    return b"unpause_" + sha256(f"{types}{text}".encode()).hexdigest()[:32].encode(), text.encode()
