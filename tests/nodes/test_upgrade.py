"""Several nodes may bring the schema up at the same time: one does it, the others wait and find it done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.databases import PostgresServer
from tests.support.processes import unpause


def test_upgrades_of_an_empty_database_at_once_all_succeed(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.database() as url:
        with ThreadPoolExecutor(3) as threads:
            done = list(
                threads.map(lambda _: unpause("db", "upgrade", folder=tmp_path, UNPAUSE_DATABASE_URL=url), range(3))
            )
        assert [one.returncode for one in done] == [0, 0, 0], [one.stderr for one in done]
        assert all("up to date" in one.stdout for one in done)
        checked = unpause("db", "check", folder=tmp_path, UNPAUSE_DATABASE_URL=url)
        assert checked.returncode == 0, checked.stderr
