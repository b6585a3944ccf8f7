"""The weakness of a database that is waited for on the event loop: one slow statement, and nobody is answered."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest

from tests.processes.exchange import create, read
from tests.support.processes import ServerProcess


@pytest.mark.weakness(27)
def test_while_the_database_cannot_be_written_others_are_answered(server: ServerProcess, client: httpx.Client) -> None:
    paused = create(client, "delete meanwhile")
    with (
        closing(sqlite3.connect(server.database, isolation_level=None)) as lock,
        ThreadPoolExecutor() as pool,
        server.client() as waiting,
    ):
        lock.execute("BEGIN IMMEDIATE")
        writing = pool.submit(create, waiting, "write later")
        for _ in range(20):
            assert client.get("/health").status_code == 200
            assert read(client, paused)["status"] == "PAUSED"
        # A server that waited for its database on the event loop had answered none of these before this was over.
        assert not writing.done()
        lock.execute("ROLLBACK")
        assert writing.result()["status"] == "COMPLETED"
