"""A PostgreSQL database whose clock a test moves: connections made afterwards find another ``clock_timestamp()``."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta

import psycopg

_MAKE = """
CREATE SCHEMA IF NOT EXISTS moved;
CREATE TABLE IF NOT EXISTS moved.clock (ahead interval NOT NULL, stopped timestamptz);
INSERT INTO moved.clock SELECT interval '0' WHERE NOT EXISTS (SELECT FROM moved.clock);
CREATE OR REPLACE FUNCTION moved.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
    'SELECT coalesce(stopped, pg_catalog.clock_timestamp() + ahead) FROM moved.clock';
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

    def stop(self, moment: datetime) -> None:
        """Have the database's clock show this moment from now on."""
        self._execute("UPDATE moved.clock SET stopped = %s", moment)

    def _execute(self, statement: str, *values: object) -> None:
        with closing(psycopg.connect(self._url, autocommit=True)) as connection:
            connection.execute(statement.encode(), values or None)


def stop_clock(database_url: str, moment: datetime) -> None:
    """Have a PostgreSQL database show this moment from now on; on SQLite the server's own clock counts."""
    if not database_url.startswith("sqlite"):
        DatabaseClock(database_url).stop(moment)
