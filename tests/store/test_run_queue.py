"""Who is to be executed next, who was left, and who still holds what."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import OperationalError

from tests.support.database_clock import DatabaseClock, stop_clock
from tests.support.databases import NOW, new_run
from unpause.domain.nodes import Node, ServedAgents, Unserved
from unpause.domain.principal import Principal, Visibility
from unpause.domain.runs import RunRef, RunStatus
from unpause.domain.sessions import NewSession
from unpause.domain.transitions import Trigger
from unpause.errors import InvalidTransition, RateLimited
from unpause.store.engine.schema import plain_engine
from unpause.store.nodes import keep_node, list_live_agents, list_unserved, remove_node
from unpause.store.run_queue import (
    has_room,
    last_sequences,
    list_ready,
    list_stale,
    read_clock,
    renew_leases,
)
from unpause.store.runs import get_run, transition
from unpause.store.sessions import ensure_session
from unpause.store.tables import nodes, organizations

T = TypeVar("T")

SERVED = ServedAgents(frozenset({"scripted", "other"}), "setup-commands")
_LATER = NOW + timedelta(seconds=10)


def done(database_url: str, unit: Callable[[Connection], T]) -> T:
    """Return what the unit did in a transaction of its own."""
    with closing(plain_engine(database_url).connect()) as connection, connection.begin():
        return unit(connection)


def with_organizations(connection: Connection, count: int) -> None:
    """Have organizations 1 to ``count``; the first is there."""
    for number in range(2, count + 1):
        connection.execute(insert(organizations).values(id=number, name=f"organization {number}", created_at=NOW))


def made(connection: Connection, organization: int, *statuses: RunStatus, **values: Any) -> list[int]:  # noqa: ANN401
    return [new_run(connection, status, organization_id=organization, **values).id for status in statuses]


def test_the_oldest_pending_runs_are_ready_and_no_others(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        made(connection, 1, *RunStatus)
        pending = made(connection, 1, RunStatus.PENDING, RunStatus.PENDING)
        found = list_ready(connection, 10, None, SERVED)
        assert found[-2:] == pending
        assert len(found) == 3
        assert list_ready(connection, 2, None, SERVED) == found[:2]
        assert list_ready(connection, 0, None, SERVED) == []

    done(database_url, unit)


def test_an_empty_table_has_nothing_ready(database_url: str) -> None:
    assert done(database_url, lambda connection: list_ready(connection, 10, 1, SERVED)) == []


def test_pending_and_running_runs_of_one_organization_are_unfinished_and_no_others(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 2)
        made(connection, 1, *RunStatus)
        made(connection, 2, RunStatus.PENDING, RunStatus.RUNNING)
        one = Principal(1), NewSession("session", "scripted"), NOW
        assert ensure_session(connection, *one, max_unfinished=3)
        with pytest.raises(RateLimited):
            ensure_session(connection, *one, max_unfinished=2)

    done(database_url, unit)


def test_a_thousand_runs_of_one_organization_do_not_keep_another_ones_single_run_waiting(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 3)
        many = made(connection, 1, *[RunStatus.PENDING] * 100)
        (one,) = made(connection, 2, RunStatus.PENDING)
        (other,) = made(connection, 3, RunStatus.PENDING)
        assert list_ready(connection, 4, None, SERVED) == [many[0], one, other, many[1]]
        assert set(list_ready(connection, 1000, None, SERVED)) == {*many, one, other}

    done(database_url, unit)


def test_who_has_fewer_runs_running_comes_first(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 2)
        made(connection, 1, RunStatus.RUNNING, RunStatus.RUNNING)
        busy = made(connection, 1, *[RunStatus.PENDING] * 3)
        idle = made(connection, 2, *[RunStatus.PENDING] * 3)
        assert list_ready(connection, 2, None, SERVED) == idle[:2]
        assert set(list_ready(connection, 4, None, SERVED)[2:]) == {idle[2], busy[0]}

    done(database_url, unit)


def test_more_organizations_than_slots_are_served_those_first_that_run_nothing(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 12)
        waiting = {number: made(connection, number, RunStatus.PENDING)[0] for number in range(1, 13)}
        for number in range(1, 11):
            made(connection, number, RunStatus.RUNNING)
        assert set(list_ready(connection, 2, None, SERVED)) == {waiting[11], waiting[12]}

    done(database_url, unit)


def test_an_organization_that_runs_as_many_as_it_may_waits(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 2)
        made(connection, 1, RunStatus.RUNNING)
        first = made(connection, 1, *[RunStatus.PENDING] * 3)
        second = made(connection, 2, *[RunStatus.PENDING] * 3)
        assert list_ready(connection, 10, 1, SERVED) == second[:1]
        assert sorted(list_ready(connection, 10, 2, SERVED)) == sorted([first[0], *second[:2]])
        assert not has_room(connection, 1, 1)
        assert has_room(connection, 1, 2)
        assert has_room(connection, 2, 1)

    done(database_url, unit)


def test_only_runs_of_served_agents_are_ready_however_many_of_others_wait_before_them(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 2)
        for agent_id in ("elsewhere", "zoo", "aside"):
            made(connection, 1, *[RunStatus.PENDING] * 5, agent_id=agent_id)
        made(connection, 1, RunStatus.PENDING, source_type="SETUP_COMMANDS", agent_id="scripted")
        made(connection, 1, RunStatus.PENDING, agent_id="setup-commands")
        (own,) = made(connection, 1, RunStatus.PENDING)
        (other,) = made(connection, 1, RunStatus.PENDING, agent_id="other")
        (setup,) = made(connection, 1, RunStatus.PENDING, source_type="SETUP_COMMANDS", agent_id="setup-commands")
        (second,) = made(connection, 2, RunStatus.PENDING, agent_id="other")
        made(connection, 2, RunStatus.PENDING, agent_id="elsewhere")
        assert list_ready(connection, 10, None, SERVED) == [own, second, other, setup]
        assert list_ready(connection, 1, None, SERVED) == [own]
        assert list_ready(connection, 10, None, ServedAgents(frozenset({"other"}))) == [other, second]
        assert list_ready(connection, 10, None, ServedAgents(frozenset())) == []

    done(database_url, unit)


def test_a_claim_takes_no_run_of_another_processes_agent(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        (run,) = made(connection, 1, RunStatus.PENDING)
        (setup,) = made(connection, 1, RunStatus.PENDING, source_type="SETUP_COMMANDS", agent_id="setup-commands")
        changes = {"updated_at": NOW}
        for key in (run, setup):
            for served in (ServedAgents(frozenset()), ServedAgents(frozenset({"setup-commands"}), "scripted")):
                with pytest.raises(InvalidTransition):
                    transition(connection, key, Trigger.CLAIM, changes=changes, served=served)
            claimed = transition(connection, key, Trigger.CLAIM, changes=changes, served=SERVED).run
            assert (claimed.status, claimed.fence) == (RunStatus.RUNNING, 1)

    done(database_url, unit)


def test_runs_that_wait_for_nobody_are_counted_by_agent(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        with_organizations(connection, 2)
        for organization in (1, 2):
            for agent_id in ("scripted", "lost", "gone"):
                made(connection, organization, *RunStatus, agent_id=agent_id)
        made(connection, 1, RunStatus.PENDING, agent_id="lost")
        assert list_unserved(connection, {"scripted"}) == [Unserved("gone", 2, 2), Unserved("lost", 3, 2)]
        assert list_unserved(connection, {"scripted", "lost", "gone"}) == []

    done(database_url, unit)


def test_a_node_is_alive_while_it_is_heard_of(postgres_url: str) -> None:
    clock = DatabaseClock(postgres_url)
    node, other = Node("1", "one:1", "1.0", ("x", "y"), 2), Node("2", "two:1", "1.0", ("z",), 0)
    patience = timedelta(seconds=10)

    def unit(connection: Connection) -> frozenset[str]:
        return list_live_agents(connection, patience)

    for each in (node, other):
        done(postgres_url, partial(keep_node, node=each))
    assert done(postgres_url, unit) == {"x", "y", "z"}
    clock.move(patience)
    done(postgres_url, partial(keep_node, node=other))
    assert done(postgres_url, unit) == {"z"}
    # What was seen later than now is no sign of life.
    clock.move(timedelta(hours=-1))
    assert done(postgres_url, unit) == set()
    clock.move(timedelta(days=1, hours=1))
    # Who leaves forgets those that nobody has heard of for long.
    done(postgres_url, partial(remove_node, node_id="3"))
    assert done(postgres_url, lambda connection: connection.execute(select(nodes)).all()) == []


def test_the_last_place_of_an_organization_is_taken_once(postgres_url: str) -> None:
    """The second of two creates in different sessions waits for the first, and then finds no place."""
    one, two = ((Principal(1), NewSession(name, "a"), NOW) for name in ("one", "two"))
    with plain_engine(postgres_url).connect() as first, plain_engine(postgres_url).connect() as second:
        ensure_session(first, *one, max_unfinished=1)
        new_run(first, RunStatus.PENDING)
        second.execute(text("SET lock_timeout = '20ms'"))
        with pytest.raises(OperationalError):
            ensure_session(second, *two, max_unfinished=1)
        second.rollback()
        first.commit()
        with pytest.raises(RateLimited):
            ensure_session(second, *two, max_unfinished=1)


def test_runs_are_stale_whose_lease_is_over_the_longest_first(database_url: str) -> None:
    stop_clock(database_url, NOW)

    def unit(connection: Connection) -> None:
        ago = [
            made(connection, 1, RunStatus.RUNNING, lease_expires_at=NOW - timedelta(seconds=seconds))[0]
            for seconds in (1, 3, 2)
        ]
        made(connection, 1, RunStatus.RUNNING, lease_expires_at=NOW)
        made(connection, 1, RunStatus.RUNNING, lease_expires_at=_LATER)
        for status in set(RunStatus) - {RunStatus.RUNNING}:
            made(connection, 1, status, lease_expires_at=NOW - timedelta(hours=1))
        # Taken before the clock went back by more than any lease lasts.
        [late] = made(connection, 1, RunStatus.RUNNING, lease_expires_at=_LATER + timedelta(seconds=1))
        assert list_stale(connection, NOW, 10, _LATER - NOW) == [ago[1], ago[2], ago[0], late]
        assert list_stale(connection, NOW, 1, _LATER - NOW) == [ago[1]]

    done(database_url, unit)


@pytest.mark.parametrize("together", [True, False])
def test_a_lease_is_renewed_under_its_own_fence_and_while_the_run_is_running(
    database_url: str, *, together: bool
) -> None:
    stop_clock(database_url, NOW)

    def unit(connection: Connection) -> None:
        held, taken_over, paused, other = (
            made(connection, 1, status, fence=fence, lease_expires_at=NOW)[0]
            for status, fence in (
                (RunStatus.RUNNING, 3),
                (RunStatus.RUNNING, 4),
                (RunStatus.PAUSED, 3),
                (RunStatus.RUNNING, 3),
            )
        )
        requested = [(key, 3) for key in (held, taken_over, paused, 4711)]
        batches = [requested] if together else [[one] for one in requested]
        assert set[int]().union(*(renew_leases(connection, batch, _LATER - NOW, NOW) for batch in batches)) == {held}
        leases = {
            key: get_run(connection, Visibility(1), RunRef(id=key)).lease_expires_at
            for key in (held, taken_over, paused, other)
        }
        assert leases == {held: _LATER, taken_over: NOW, paused: NOW, other: NOW}

    done(database_url, unit)


def test_who_holds_nothing_renews_nothing(database_url: str) -> None:
    assert done(database_url, lambda connection: renew_leases(connection, [], _LATER - NOW, NOW)) == set()


def test_how_far_logs_have_come_is_told_for_the_runs_asked_about(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        first, second, third = (
            made(connection, 1, RunStatus.PAUSED, last_sequence=number)[0] for number in (5, 0, 1_000_000)
        )
        assert last_sequences(connection, [first, third, 4711]) == {first: 5, third: 1_000_000}
        assert last_sequences(connection, [second]) == {second: 0}
        assert last_sequences(connection, []) == {}

    done(database_url, unit)


def test_postgresql_tells_the_time(postgres_url: str) -> None:
    first = done(postgres_url, read_clock)
    second = done(postgres_url, read_clock)
    assert first.utcoffset() == timedelta()
    assert first < second < first + timedelta(minutes=5)
