"""Takes a database of the tests' PostgreSQL away for a while, or cuts single connections to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import make_url

from tests.support.databases import PostgresServer

_CUT = """
SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
WHERE datname = %s AND pid <> pg_backend_pid() AND {}
"""


@contextmanager
def away(server: PostgresServer, url: str) -> Iterator[None]:
    """Take the database away for the length of the block: who is connected is cut off, and nobody gets in."""
    name = Identifier(make_url(url).database or "")
    server.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
    try:
        cut(server, url)
        yield
    finally:
        server.execute(SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def cut(server: PostgresServer, url: str) -> int:
    """Cut all connections to the database; return how many there were."""
    return _cut(server, url, "true")


def cut_listeners(server: PostgresServer, url: str) -> int:
    """Cut the connections that listen for notifications; return how many there were."""
    return _cut(server, url, "starts_with(application_name, 'unpause listener ')")


def _cut(server: PostgresServer, url: str, which: LiteralString) -> int:
    with closing(psycopg.connect(_plain(server.url("postgres")), autocommit=True)) as connection:
        found = connection.execute(SQL(_CUT).format(SQL(which)), (make_url(url).database,)).fetchone()
    return 0 if found is None else int(found[0])


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
