"""`unpause users erase` that is killed in the middle, again and again, and then run to its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from tests.store.test_audit import entry
from tests.support.databases import NOW, new_run
from unpause.domain.events import Event, EventType
from unpause.domain.runs import RunStatus
from unpause.store.audit import add_entries
from unpause.store.engine.database import Database
from unpause.store.engine.schema import plain_connection
from unpause.store.events import add_events
from unpause.store.tables import audit, events, runs, user_erasures

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

_RUNS = 600
_KILLS = 4
_SECRET = "canary"


def fill(connection: Connection) -> None:
    for _ in range(_RUNS):
        run = new_run(connection, RunStatus.COMPLETED, prompt=_SECRET, content=_SECRET)
        add_events(connection, run.id, [Event(EventType.RUN_COMPLETED, NOW, {"content": _SECRET})], 1)
        add_entries(connection, [entry(actor="ada", run_id=run.run_id, note=_SECRET)])


def started(url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "unpause", "users", "erase", "ada", "--yes", "--database-url", url]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def counted(url: str) -> tuple[int, int, int, tuple[str, ...]]:
    """Return how many runs, events and entries are still as they were, and the pseudonyms that are noted."""
    with plain_connection(url) as connection:
        return (
            connection.scalar(select(func.count()).where(runs.c.prompt == _SECRET)) or 0,
            connection.scalar(select(func.count()).where(events.c.payload["content"].as_string() == _SECRET)) or 0,
            connection.scalar(select(func.count()).where(audit.c.actor == "ada")) or 0,
            tuple(connection.scalars(select(user_erasures.c.pseudonym))),
        )


def kill_in_the_middle(url: str) -> bool:
    """Start it, and kill it once it has done something; return whether it was still at work."""
    before, process = counted(url)[:3], started(url)
    while process.poll() is None and counted(url)[:3] == before:
        time.sleep(0.02)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return was_running


def verified(url: str, tmp_path: Path) -> str:
    command = [sys.executable, "-m", "unpause", "audit", "verify", "--database-url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    return done.stdout if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr}"


async def test_an_erasure_that_is_killed_goes_on_when_the_command_is_run_again(
    tmp_path: Path, database_url: str
) -> None:
    async with Database(database_url).opened() as database:
        await database.write(fill)
    kills, pseudonyms = 0, set[str]()
    for _ in range(_KILLS):
        kills += kill_in_the_middle(database_url)
        pseudonyms.update(counted(database_url)[3])
    assert "NOT whole" not in verified(database_url, tmp_path)
    print(f"killed {kills} times at work, left {counted(database_url)}")  # noqa: T201
    assert kills > 1
    process = started(database_url)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    [pseudonym] = pseudonyms
    assert said.endswith(f"Erased; the trail knows the user as {pseudonym}\n")
    assert counted(database_url) == (0, 0, 0, ())
    assert verified(database_url, tmp_path).startswith("organization 1: ")
