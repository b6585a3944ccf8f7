"""Runs migrations on the database that the command line or UNPAUSE_DATABASE_URL names."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection, Engine, text

from unpause.operator_settings import DEFAULT_DATABASE_URL
from unpause.store.engine.migrate import record_compatibility
from unpause.store.engine.migration_locks import limit_lock_waits, only_migration
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import metadata


def run_migrations() -> None:
    """Run them on either database."""
    database_url = context.config.attributes.get("database_url") or os.environ.get(
        "UNPAUSE_DATABASE_URL", DEFAULT_DATABASE_URL
    )
    engine = plain_engine(database_url)
    if engine.dialect.name == "sqlite":
        run_in_one_transaction(engine)
    else:
        run_beside_others(engine)
    engine.dispose()


def run_in_one_transaction(engine: Engine) -> None:
    """Run them all in one transaction, and check at its end that no row lost what it points to."""
    with engine.begin() as connection:
        # By itself the driver begins at the first change of a row, which leaves out the tables made before.
        connection.connection.dbapi_connection.isolation_level = None
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        configure(connection)
        context.run_migrations()
        if connection.execute(text("PRAGMA foreign_key_check")).first():
            message = "the migration left rows that point to nothing; nothing was changed"
            raise RuntimeError(message)


def run_beside_others(engine: Engine) -> None:
    """Run each in a transaction of its own: what one locks is free before the next begins."""
    limit_lock_waits(engine)
    with only_migration(engine, context.config.attributes.get("report")), engine.connect() as connection:
        configure(connection, transaction_per_migration=True)
        context.run_migrations()


def configure(connection: Connection, **more: bool) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        render_as_batch=True,
        on_version_apply=lambda **done: record_compatibility(connection, context.script, done["heads"]),
        **more,
    )


run_migrations()
