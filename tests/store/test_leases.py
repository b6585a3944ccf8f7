"""Leases are renewed on a connection of their own, which neither waits for a run in vain nor keeps others waiting."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from tests.support.database_clock import stop_clock
from tests.support.databases import NOW, PostgresServer, new_run
from tests.support.outages import away, cut
from unpause.domain.principal import Visibility
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import DatabaseUnavailable
from unpause.store.engine.database import parse_url
from unpause.store.engine.schema import plain_engine
from unpause.store.leases import LeaseKeeper
from unpause.store.runs import get_run

_LATER = NOW + timedelta(seconds=10)


@pytest.fixture
def engine(postgres_url: str) -> Iterator[Engine]:
    """Yield an engine for looking at the database beside the keeper."""
    stop_clock(postgres_url, NOW)
    engine = plain_engine(postgres_url)
    yield engine
    engine.dispose()


@pytest.fixture
def held(engine: Engine) -> list[tuple[int, int]]:
    """Return two runs that are RUNNING, with their fences."""
    with engine.begin() as connection:
        return [
            (new_run(connection, RunStatus.RUNNING, fence=fence, lease_expires_at=NOW).id, fence) for fence in (1, 7)
        ]


@pytest.fixture
def keeper(postgres_url: str, engine: Engine) -> Iterator[LeaseKeeper]:
    """Yield a keeper that is closed at the end, on a database whose clock stands still."""
    del engine
    with closing(LeaseKeeper(parse_url(postgres_url))) as keeper:
        yield keeper


def lease(connection: Connection, key: int) -> Any:  # noqa: ANN401 - a moment or None
    return get_run(connection, Visibility(1), RunRef(id=key)).lease_expires_at


def test_what_is_held_is_renewed_and_the_rest_is_told_by_its_absence(
    keeper: LeaseKeeper, engine: Engine, held: list[tuple[int, int]]
) -> None:
    (first, fence), (second, _) = held
    assert keeper.renew([(first, fence), (second, 1)], _LATER - NOW) == {first}
    with engine.connect() as connection:
        assert (lease(connection, first), lease(connection, second)) == (_LATER, NOW)


def test_a_run_that_is_being_written_to_is_looked_at_again_without_holding_another(
    keeper: LeaseKeeper, engine: Engine, held: list[tuple[int, int]]
) -> None:
    keys = [key for key, _ in held]
    # The second that a group commit writes to is the first that the renewal would lock, and the other way round.
    for number, (first, second) in enumerate((keys, keys[::-1]), 1):
        until = NOW + timedelta(minutes=number)
        with ThreadPoolExecutor(1) as thread, engine.connect() as connection:
            connection.execute(text("UPDATE runs SET summary = 'a' WHERE id = :key"), {"key": first})
            renewing = thread.submit(keeper.renew, held, until - NOW)
            while not is_renewed(engine, second, until):
                assert not renewing.done() or renewing.result() == set(keys)
            connection.execute(text("UPDATE runs SET summary = 'b' WHERE id = :key"), {"key": second})
            connection.commit()
            assert renewing.result(60) == set(keys)
        assert keeper.renew(held, until - NOW) == set(keys)
        assert is_renewed(engine, first, until)


def is_renewed(engine: Engine, key: int, until: datetime) -> bool:
    with engine.connect() as connection:
        return bool(lease(connection, key) == until)


def test_a_row_that_stays_locked_costs_the_others_nothing_and_counts_as_held(
    keeper: LeaseKeeper, engine: Engine, held: list[tuple[int, int]]
) -> None:
    (first, _), (second, _) = held
    with engine.connect() as connection:
        connection.execute(text("UPDATE runs SET summary = 'a' WHERE id = :key"), {"key": first})
        assert keeper.renew(held, _LATER - NOW) == {first, second}
        assert is_renewed(engine, second, _LATER)
        assert not is_renewed(engine, first, _LATER)


def test_a_database_that_is_away_is_said_to_be_and_the_keeper_comes_back_with_it(
    postgres: PostgresServer, postgres_url: str, keeper: LeaseKeeper, held: list[tuple[int, int]]
) -> None:
    keys = {key for key, _ in held}
    assert keeper.renew(held, timedelta()) == keys
    with away(postgres, postgres_url):
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                keeper.renew(held, _LATER - NOW)
    assert keeper.renew(held, _LATER - NOW) == keys


def test_a_cut_connection_costs_one_renewal(
    postgres: PostgresServer, postgres_url: str, keeper: LeaseKeeper, held: list[tuple[int, int]]
) -> None:
    assert keeper.renew(held, timedelta()) == {key for key, _ in held}
    assert cut(postgres, postgres_url) > 0
    with pytest.raises(DatabaseUnavailable):
        keeper.renew(held, _LATER - NOW)
    assert keeper.renew(held, _LATER - NOW) == {key for key, _ in held}
