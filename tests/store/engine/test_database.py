"""Transactions on both databases: alone or sharing a commit, a unit succeeds whole or leaves nothing behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, func, select, text

from tests.support.databases import new_run, sqlite_url
from tests.support.engines import waiting_for_the_disk
from unpause.errors import Collision, InvalidSetting, ShuttingDown
from unpause.store.engine.database import Database, database_file, parse_url
from unpause.store.engine.schema import plain_engine
from unpause.store.engine.statements import send_text
from unpause.store.tables import runs


def count_runs(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(runs)).scalar_one()


def prompts(connection: Connection) -> list[str]:
    return list(connection.execute(select(runs.c.prompt).order_by(runs.c.prompt)).scalars())


def adding(prompt: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        return new_run(connection, prompt=prompt).prompt

    return unit


def failing(prompt: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        new_run(connection, prompt=prompt)
        raise LookupError(prompt)

    return unit


async def together(database: Database, *units: Callable[[Connection], Any]) -> list[Any]:
    """Ask for all units at once; on SQLite all that are asked for before the writer wakes up share a commit."""
    return await asyncio.gather(*(database.write(unit) for unit in units), return_exceptions=True)


async def test_a_failing_unit_disturbs_no_other_and_leaves_nothing_behind(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        results = await together(
            database,
            *(failing(f"{number:02}") if number % 3 == 0 else adding(f"{number:02}") for number in range(30)),
        )
        kept = await database.read(prompts)
    assert kept == [f"{number:02}" for number in range(30) if number % 3]
    for number, result in enumerate(results):
        if number % 3 == 0:
            assert isinstance(result, LookupError)
            assert result.args == (f"{number:02}",)
        else:
            assert result == f"{number:02}"


async def test_a_statement_that_the_database_refuses_disturbs_no_other(database_url: str) -> None:
    def twice(connection: Connection) -> None:
        for _ in range(2):
            new_run(connection, run_id="the same")

    async with Database(database_url).opened() as database:
        before, refused, after = await together(database, adding("before"), twice, adding("after"))
        assert (before, after) == ("before", "after")
        assert isinstance(refused, Collision)
        assert await database.read(prompts) == ["after", "before"]


async def test_a_unit_that_fails_alone_leaves_nothing_behind(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        with pytest.raises(LookupError, match="alone"):
            await database.write(failing("alone"))
        assert await database.read(count_runs) == 0
        assert await database.write(adding("next")) == "next"


@contextmanager
def committed() -> Iterator[list[object]]:
    """Collect the connections that commit during the block."""
    commits: list[object] = []

    def note(connection: object) -> None:
        commits.append(connection)

    event.listen(Engine, "commit", note)
    try:
        yield commits
    finally:
        event.remove(Engine, "commit", note)


def with_a_check_at_commit(connection: Connection) -> None:
    """Make two tables whose foreign key is only looked at when a transaction commits."""
    connection.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
    connection.execute(text("CREATE TABLE child (parent INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"))


def orphan(connection: Connection) -> str:
    connection.execute(text("INSERT INTO child (parent) VALUES (1)"))
    return "the commit has to fail"


async def test_a_failing_commit_reaches_every_caller_whose_work_is_lost(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        await database.write(with_a_check_at_commit)
        results = await together(database, adding("a"), orphan, adding("b"))
        assert isinstance(results[1], Collision)
        reported = [result for result in results if isinstance(result, str)]
        assert await database.read(prompts) == reported
        # SQLite commits them together, PostgreSQL each alone.
        assert reported == (["a", "b"] if database.is_shared else [])
        assert await database.write(adding("c")) == "c"
        assert await database.read(prompts) == [*reported, "c"]


def orphan_of_the_hot_path(connection: Connection) -> str:
    """Do what ``orphan`` does, without SQLAlchemy: then that has no transaction of its own."""
    send_text(connection, "INSERT INTO child (parent) VALUES (1)")
    return "the commit has to fail"


def failing_orphan_of_the_hot_path(connection: Connection) -> str:
    orphan_of_the_hot_path(connection)
    raise LookupError


@pytest.mark.parametrize(
    ("unit", "raised"), [(orphan_of_the_hot_path, Collision), (failing_orphan_of_the_hot_path, LookupError)]
)
async def test_a_commit_or_work_that_fails_without_sqlalchemy_leaves_nothing_behind(
    database_url: str, unit: Callable[[Connection], str], raised: type[Exception]
) -> None:
    async with Database(database_url).opened() as database:
        await database.write(with_a_check_at_commit)
        with pytest.raises(raised):
            await database.write(unit)
        assert await database.write(adding("next")) == "next"
        children = await database.read(lambda connection: connection.execute(text("SELECT * FROM child")).all())
        assert children == []
        assert await database.read(prompts) == ["next"]


async def test_more_writes_at_once_than_one_transaction_takes_all_happen(database_url: str) -> None:
    names = [f"{number:03}" for number in range(700)]
    async with Database(database_url).opened() as database:
        assert await together(database, *map(adding, names)) == names
        assert await database.read(prompts) == names


async def test_on_sqlite_units_that_wait_share_one_transaction(tmp_path: Path) -> None:
    def unit(connection: Connection) -> None:
        send_text(connection, "SELECT 1")

    def slow_unit(_: Connection) -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_end.wait()

    loop, has_begun, may_end = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    async with Database(sqlite_url(tmp_path / "new.db")).opened() as database:
        with committed() as commits:
            first = asyncio.create_task(database.write(slow_unit))
            await has_begun.wait()
            waiting = asyncio.create_task(together(database, *[unit] * 50))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            may_end.set()
            assert await waiting == [None] * 50
            await first
            assert len(commits) == 2
            await database.write(unit)
            assert len(commits) == 3


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration, MemoryError])
async def test_whatever_a_unit_raises_reaches_its_caller_and_the_next_one_is_written(
    database_url: str, error: type[BaseException]
) -> None:
    if not database_url.startswith("sqlite"):
        pytest.skip("asyncio itself ends the loop where a task raises SystemExit")

    def unit(connection: Connection) -> None:
        new_run(connection)
        raise error

    raised = RuntimeError if error is StopIteration else error
    async with Database(database_url).opened() as database:
        with pytest.raises(raised):
            await database.write(unit)
        assert await database.write(adding("next")) == "next"
        assert await database.read(prompts) == ["next"]


async def test_nobody_sees_what_is_not_committed(database_url: str) -> None:
    def seen_by_others() -> int:
        with closing(plain_engine(database_url).connect()) as other:
            return count_runs(other)

    def unit(connection: Connection) -> tuple[int, int]:
        new_run(connection)
        return count_runs(connection), seen_by_others()

    async with Database(database_url).opened() as database:
        assert await database.write(unit) == (1, 0)
        assert await database.read(count_runs) == 1
        assert seen_by_others() == 1


async def test_on_sqlite_reads_go_on_beside_a_long_write(database_url: str) -> None:
    database = Database(database_url)
    if database.is_shared:
        # There a unit runs on the event loop, which nothing may block.
        return
    loop, entered, finish = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def unit(connection: Connection) -> int:
        new_run(connection)
        loop.call_soon_threadsafe(entered.set)
        assert finish.wait(30)
        return count_runs(connection)

    async with database.opened():
        writing = asyncio.create_task(database.write(unit))
        await entered.wait()
        waiting = [asyncio.create_task(database.write(adding("later"))) for _ in range(3)]
        assert await asyncio.gather(*(database.read(count_runs) for _ in range(20))) == [0] * 20
        assert not any(task.done() for task in (writing, *waiting))
        finish.set()
        assert await writing == 1
        await asyncio.gather(*waiting)
        assert await database.read(count_runs) == 4


async def test_a_read_is_of_one_moment(database_url: str) -> None:
    def unit(connection: Connection) -> tuple[int, int]:
        first = count_runs(connection)
        with plain_engine(database_url).begin() as other:
            new_run(other)
        return first, count_runs(connection)

    async with Database(database_url).opened() as database:
        assert await database.read(unit) == (0, 0)
        assert await database.read(count_runs) == 1


async def test_a_caller_who_gives_up_takes_nobody_along(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        tasks = [asyncio.create_task(database.write(adding(name))) for name in ("a", "b", "c")]
        first_step = asyncio.create_task(database.read(count_runs))
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await first_step
        assert (results[0], results[2]) == ("a", "c")
        assert isinstance(results[1], asyncio.CancelledError)
        assert await database.write(adding("d")) == "d"


async def test_a_database_that_is_not_opened_takes_nothing(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(ShuttingDown):
        await database.write(adding("no"))
    with pytest.raises(ShuttingDown):
        await database.read(count_runs)


async def test_a_closed_database_takes_nothing(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        assert await database.read(count_runs) == 0
    with pytest.raises(ShuttingDown):
        await database.write(adding("no"))
    with pytest.raises(ShuttingDown):
        await database.read(count_runs)


async def test_what_was_asked_for_before_the_end_is_done(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        writes = [asyncio.create_task(database.write(adding(f"{number:02}"))) for number in range(20)]
        reads = [asyncio.create_task(database.read(count_runs)) for _ in range(20)]
        requested = asyncio.gather(*writes, *reads)
        # While this one waits the others have asked, too.
        await database.read(count_runs)
        if database.is_shared:
            await requested
    await requested
    async with Database(database_url).opened() as database:
        assert await database.read(count_runs) == 20


async def keeping_and_raising(url: str) -> None:
    async with Database(url).opened() as database:
        await database.write(adding("kept"))
        raise LookupError("mine")


async def test_an_error_in_the_block_comes_out_as_it_is_and_everything_is_closed(database_url: str) -> None:
    before = set(threading.enumerate())
    with pytest.raises(LookupError, match="mine"):
        await keeping_and_raising(database_url)
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
        assert not thread.is_alive()
    async with Database(database_url).opened() as again:
        assert await again.read(prompts) == ["kept"]


async def test_sqlite_is_durable_and_checks_foreign_keys(database_url: str) -> None:
    def settings(connection: Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    async with AsyncExitStack() as stack:
        with waiting_for_the_disk():
            database = await stack.enter_async_context(Database(database_url).opened())
        if not database.is_shared:
            # It waits by itself, and looks more often than SQLite.
            assert await database.write(settings) == ["wal", 2, 1, 0]
            assert await database.read(settings) == ["wal", 2, 1, 5000]
        with pytest.raises(Collision):
            await database.write(lambda connection: new_run(connection, session_key=4711))


@pytest.mark.parametrize(
    "address",
    [
        "sqlite://",
        "sqlite+pysqlcipher:///a.db",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:///:memory:",
        "mysql+aiomysql://localhost/x",
        "postgresql+asyncpg://localhost/x",
        "postgresql://one:5432,two:x/name",
        "no address",
        "",
    ],
)
def test_an_address_that_is_not_served_is_refused_without_repeating_it(address: str) -> None:
    with pytest.raises(InvalidSetting, match="database_url"):
        parse_url(address)


def test_a_password_in_an_address_is_in_no_message() -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse_url("mysql://root:hunter2@localhost/x")
    assert "hunter2" not in str(caught.value)


def test_the_url_of_the_former_sqlite_driver_means_the_same_file() -> None:
    assert parse_url("sqlite+aiosqlite:///a.db") == parse_url("sqlite:///a.db")
    assert database_file("sqlite+aiosqlite:///a.db") == Path("a.db")


def test_only_sqlite_has_a_file(tmp_path: Path) -> None:
    assert database_file(sqlite_url(tmp_path / "a.db")) == tmp_path / "a.db"
    assert database_file("sqlite:///a.db") == Path("a.db")
    assert database_file("postgresql+psycopg://localhost/x") is None


def test_a_server_on_sqlite_loads_nothing_of_postgresql() -> None:
    program = (
        "import sys, unpause.cli.server_process, unpause.store.tables\n"
        "print([name for name in sys.modules if name.startswith(('psycopg', 'sqlalchemy.dialects.postgresql'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
