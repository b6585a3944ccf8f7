"""Which revisions of the database's schema this code works with.

Migrations expand first: they add what code of older revisions does without, so that nodes of two versions share the
database during an upgrade. Code cannot know the revisions that come after it. So each migration records in the database
the oldest code that works with its result: ``oldest_code`` in its file, the table ``schema_compatibility``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from unpause.errors import SchemaMismatch
from unpause.version import VERSION

# The newest migration. Written down here so that a server need not load Alembic; a test compares it with the tree.
SCHEMA_REVISION: Final[str] = "0018"
# The oldest schema that this code works with: it has all columns that the code uses. Tests compare it with the tables.
OLDEST_SCHEMA: Final[str] = "0018"

_SUPPORTED: Final = SCHEMA_REVISION if OLDEST_SCHEMA == SCHEMA_REVISION else f"{OLDEST_SCHEMA} to {SCHEMA_REVISION}"
_SESSION: Final = re.compile(r"unpause .*schema (\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class SchemaRange:
    """The schemas that code works with: ``newest`` is its own, and later ones that allow it."""

    oldest: str
    newest: str


_OWN: Final = SchemaRange(OLDEST_SCHEMA, SCHEMA_REVISION)


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The revision that a database is at, or None without a schema.

    ``oldest_code`` is the oldest code that works with it, by revision, where the database records that.
    """

    revision: str | None
    oldest_code: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether the schema is this code's own."""
        return self.revision == SCHEMA_REVISION

    @property
    def is_ahead(self) -> bool:
        """Whether the schema is newer than this code."""
        return self.revision is not None and self.revision > SCHEMA_REVISION

    @property
    def is_behind(self) -> bool:
        """Whether the schema is older than this code, or missing."""
        return self.revision is None or self.revision < SCHEMA_REVISION

    @property
    def is_supported(self) -> bool:
        """Whether this code works with the schema."""
        return self.suits(_OWN)

    def suits(self, code: SchemaRange) -> bool:
        """Whether the code that works with these schemas works with this one."""
        if self.revision is None or self.revision < code.oldest:
            return False
        return self.revision <= code.newest or (self.oldest_code is not None and self.oldest_code <= code.newest)

    def require_supported(self) -> None:
        """Raise SchemaMismatch, naming the command to run, unless this code works with the schema."""
        if self.is_supported:
            return
        found = f"The database schema is at {self.revision or 'nothing'}"
        if self.is_ahead:
            raise SchemaMismatch(
                f"{found}, ahead of this server's {SCHEMA_REVISION}: install the newer unpause, "
                f"or with the newer one run `unpause db downgrade {SCHEMA_REVISION}`"
            )
        raise SchemaMismatch(f"{found}, this server needs {_SUPPORTED}: run `unpause db upgrade`")

    def describe(self) -> str:
        """Return how the schema and this code fit, for an operator."""
        found = f"The database schema is at {self.revision or 'nothing'}"
        if self.is_current:
            return f"{found}: up to date"
        if self.is_ahead:
            fit = "works with it" if self.is_supported else "does not work with it"
            return f"{found}: this version knows up to {SCHEMA_REVISION} and {fit}"
        fit = ", and this version works with both" if self.is_supported else ""
        return f"{found}: the newest is {SCHEMA_REVISION}{fit}"


def session_name(purpose: str = "server") -> str:
    """Return the name of this process's connections, which shows other processes what schemas it works with."""
    return f"unpause {purpose} {VERSION[:16]} schema {OLDEST_SCHEMA}-{SCHEMA_REVISION}"


def read_session_name(name: str) -> SchemaRange | None:
    """Return what a connection's name shows; None for one of another program."""
    found = _SESSION.fullmatch(name)
    return None if found is None else SchemaRange(found[1], found[2])
