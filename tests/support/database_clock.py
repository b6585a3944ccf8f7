"""A PostgreSQL database whose clock a test moves: connections made afterwards find another ``clock_timestamp()``."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta

import psycopg

_MAKE = """
CREATE SCHEMA moved;
CREATE TABLE moved.clock (ahead interval NOT NULL);
INSERT INTO moved.clock VALUES (interval '0');
CREATE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT pg_catalog.clock_timestamp() + ahead FROM moved.clock';
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET search_path = moved, pg_catalog, public', current_database());
END $$;
"""


class DatabaseClock:
    """The clock of one database. Make it before the server under test connects."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url.replace("+psycopg", "")
        self._execute(_MAKE)

    def move(self, by: timedelta) -> None:
        """Have the database's clock go on from another moment."""
        self._execute("UPDATE moved.clock SET ahead = ahead + %s", by)

    def show(self, moment: datetime) -> None:
        """Have the database's clock show this moment now."""
        self._execute("UPDATE moved.clock SET ahead = %s - pg_catalog.clock_timestamp()", moment)

    def _execute(self, statement: str, *values: object) -> None:
        with closing(psycopg.connect(self._url, autocommit=True)) as connection:
            connection.execute(statement.encode(), values or None)
