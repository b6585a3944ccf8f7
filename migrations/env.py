"""Runs migrations on the database that the command line or UNPAUSE_DATABASE_URL names."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import text

from unpause.operator_settings import DEFAULT_DATABASE_URL, DEFAULT_LOCK_SECONDS
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import metadata


def run_migrations() -> None:
    """Run them in one transaction; on SQLite check afterwards that no row lost what it points to."""
    database_url = context.config.attributes.get("database_url") or os.environ.get(
        "UNPAUSE_DATABASE_URL", DEFAULT_DATABASE_URL
    )
    engine = plain_engine(database_url)
    with engine.begin() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            # Several nodes may start at once: the second one waits here, and then finds nothing to do.
            connection.execute(text("SELECT pg_advisory_xact_lock(7264)"))
            # Who waits for a table has everybody else wait behind it, for as long as somebody's open transaction lasts.
            seconds = float(os.environ.get("UNPAUSE_LOCK_TIMEOUT_SECONDS", DEFAULT_LOCK_SECONDS))
            connection.execute(text(f"SET LOCAL lock_timeout = {max(1, round(seconds * 1000))}"))
        if sqlite:
            # By itself the driver begins at the first change of a row, which leaves out the tables made before.
            connection.connection.dbapi_connection.isolation_level = None
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
        context.run_migrations()
        if sqlite and connection.execute(text("PRAGMA foreign_key_check")).first():
            message = "the migration left rows that point to nothing; nothing was changed"
            raise RuntimeError(message)
    engine.dispose()


run_migrations()
