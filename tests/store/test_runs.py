"""The one door through which a run's status changes, on real rows of both databases."""

from __future__ import annotations

import ast
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

import unpause
from tests.domain.test_transitions import grid
from tests.support.databases import NOW, dump, new_run
from unpause.domain.principal import Visibility
from unpause.domain.runs import Run, RunRef, RunStatus
from unpause.domain.transitions import TRANSITIONS, Trigger
from unpause.errors import InvalidTransition, LeaseLost, RunNotFound
from unpause.store.engine.database import Database
from unpause.store.run_lists import list_unfinished
from unpause.store.runs import Moved, append_to_log, find_by_key, find_run, get_run, reserve_sequence, transition
from unpause.store.tables import organizations

_FENCE = 3
_LATER = NOW + timedelta(minutes=1)


def _moved(connection: Connection, run: Run, trigger: Trigger, fence: int | None) -> Run | type[Exception]:
    """Return the run after the trigger, or the class of what was raised; checks that a refusal changed nothing."""
    before = dump(connection)
    try:
        return transition(connection, run.id, trigger, fence=fence, changes={"updated_at": _LATER, "events": 2}).run
    except (InvalidTransition, LeaseLost) as error:
        assert dump(connection) == before
        return type(error)


async def test_every_status_and_trigger_with_the_right_fence(database_url: str) -> None:
    def unit(connection: Connection) -> dict[tuple[RunStatus, Trigger], Run | type[Exception]]:
        return {
            (status, trigger): _moved(
                connection, new_run(connection, status, fence=_FENCE, last_sequence=5), trigger, _FENCE
            )
            for status, trigger in grid()
        }

    async with Database(database_url).opened() as database:
        found = await database.write(unit)
    for (status, trigger), target in grid().items():
        result = found[status, trigger]
        if target is None:
            assert result is (LeaseLost if TRANSITIONS[trigger].fenced else InvalidTransition), (status, trigger)
            continue
        assert isinstance(result, Run), (status, trigger)
        assert result.status is target
        assert result.fence == _FENCE + (trigger is Trigger.CLAIM)
        assert result.last_sequence == 7
        assert result.updated_at == _LATER


@pytest.mark.parametrize("fence", [_FENCE - 1, _FENCE + 1])
async def test_no_trigger_moves_a_run_with_another_fence(database_url: str, fence: int) -> None:
    def unit(connection: Connection) -> dict[tuple[RunStatus, Trigger], Run | type[Exception]]:
        held = {status: new_run(connection, status, fence=_FENCE) for status in RunStatus}
        return {(status, trigger): _moved(connection, held[status], trigger, fence) for status, trigger in grid()}

    async with Database(database_url).opened() as database:
        found = await database.write(unit)
    for (status, trigger), result in found.items():
        assert result is (LeaseLost if TRANSITIONS[trigger].fenced else InvalidTransition), (status, trigger)


async def test_a_fenced_trigger_without_a_fence_moves_nothing(database_url: str) -> None:
    def unit(connection: Connection) -> list[Run | type[Exception]]:
        fenced = [trigger for trigger, rule in TRANSITIONS.items() if rule.fenced]
        return [
            _moved(connection, new_run(connection, RunStatus.RUNNING, fence=_FENCE), trigger, None)
            for trigger in fenced
        ]

    async with Database(database_url).opened() as database:
        assert set(await database.write(unit)) == {LeaseLost}


@pytest.mark.parametrize("status", RunStatus)
async def test_a_refusal_says_where_the_run_stands_and_who_brought_it_there(
    database_url: str, status: RunStatus
) -> None:
    def unit(connection: Connection) -> InvalidTransition:
        run = new_run(
            connection,
            status,
            continued_at=NOW,
            continued_by="grace",
            continued_via="codegen",
            continued_decision="rejected",
        )
        trigger = Trigger.CLAIM if status is RunStatus.PAUSED else Trigger.CONTINUE
        with pytest.raises(InvalidTransition) as caught:
            transition(connection, run.id, trigger, changes={})
        return caught.value

    async with Database(database_url).opened() as database:
        error = await database.write(unit)
    assert error.status == status.value
    assert error.details == {
        "status": status.value,
        "continued_at": NOW.isoformat(),
        "continued_by": "grace",
        "continued_via": "codegen",
        "decision": "rejected",
    }


@pytest.mark.parametrize("trigger", Trigger)
async def test_no_trigger_finds_a_run_that_is_not_there(database_url: str, trigger: Trigger) -> None:
    async with Database(database_url).opened() as database:
        with pytest.raises(RunNotFound):
            await database.write(lambda connection: transition(connection, 4711, trigger, fence=1, changes={}))


async def test_of_many_claims_at_once_one_wins(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        run = await database.write(new_run)
        tries = await asyncio.gather(
            *(
                database.write(lambda connection: transition(connection, run.id, Trigger.CLAIM, changes={}))
                for _ in range(32)
            ),
            return_exceptions=True,
        )
    won = [result for result in tries if isinstance(result, Moved)]
    assert [claimed.run.fence for claimed in won] == [1]
    assert sum(isinstance(result, InvalidTransition) for result in tries) == 31


@pytest.mark.parametrize(("left", "is_renewed"), [(10, True), (90, False)])
async def test_a_write_renews_a_lease_half_of_which_is_over(database_url: str, left: int, is_renewed: bool) -> None:  # noqa: FBT001 - a case
    now = datetime.now(UTC)
    lease_expires_at = now + timedelta(seconds=left)

    def unit(connection: Connection) -> datetime | None:
        run = new_run(connection, RunStatus.RUNNING, fence=_FENCE, lease_expires_at=lease_expires_at)
        reserve_sequence(connection, run.id, _FENCE, 1, now, lease=timedelta(seconds=100))
        found = find_by_key(connection, run.id)
        return None if found is None else found.lease_expires_at

    async with Database(database_url).opened() as database:
        renewed = await database.write(unit)
    assert renewed is not None
    assert (renewed >= now + timedelta(seconds=100)) is is_renewed


async def test_reserving_numbers_needs_the_fence_and_a_running_run(database_url: str) -> None:
    def refused(connection: Connection, status: RunStatus, fence: int) -> None:
        run = new_run(connection, status, fence=_FENCE, last_sequence=5)
        before = dump(connection)
        with pytest.raises(LeaseLost):
            reserve_sequence(connection, run.id, fence, 1, _LATER)
        assert dump(connection) == before

    def unit(connection: Connection) -> list[int]:
        run = new_run(connection, RunStatus.RUNNING, fence=_FENCE, last_sequence=5)
        for status in RunStatus:
            refused(connection, status, _FENCE - 1)
            refused(connection, status, _FENCE + 1)
            if status is not RunStatus.RUNNING:
                refused(connection, status, _FENCE)
        return [reserve_sequence(connection, run.id, _FENCE, count, _LATER).last for count in (1, 0, 3)]

    async with Database(database_url).opened() as database:
        assert await database.write(unit) == [6, 6, 9]


async def test_a_note_about_a_run_that_nobody_executes_counts_on(database_url: str) -> None:
    def unit(connection: Connection) -> tuple[int, Run]:
        run = new_run(connection, RunStatus.PAUSED, last_sequence=5)
        last = append_to_log(connection, run.id, 2, _LATER)
        return last, get_run(connection, Visibility(1), RunRef(id=run.id))

    async with Database(database_url).opened() as database:
        last, run = await database.write(unit)
    assert (last, run.last_sequence, run.status, run.updated_at) == (7, 7, RunStatus.PAUSED, _LATER)


async def test_a_run_is_found_by_either_id_and_only_in_its_organization(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        run = new_run(connection)
        other = new_run(connection, organization_id=2)
        assert other.organization_id == 2
        for mine, found in ((1, run), (2, other)):
            assert get_run(connection, Visibility(mine), RunRef(id=found.id)) == found
            assert get_run(connection, Visibility(mine), RunRef(run_id=found.run_id)) == found
            for ref in (RunRef(id=found.id), RunRef(run_id=found.run_id)):
                assert find_run(connection, Visibility(3 - mine), ref) is None
                with pytest.raises(RunNotFound):
                    get_run(connection, Visibility(3 - mine), ref)

    async with Database(database_url).opened() as database:
        await database.write(unit)


@pytest.mark.parametrize("number", [0, -1, 2**63 - 1, 2**63, 2**64, 10**30, -(2**63), -(2**63) - 1, -(10**30)])
async def test_an_id_that_no_database_has_is_not_found(database_url: str, number: int) -> None:
    async with Database(database_url).opened() as database:
        await database.write(new_run)
        assert await database.read(lambda connection: find_run(connection, Visibility(1), RunRef(id=number))) is None


@pytest.mark.parametrize("name", ["", "no-such-run", "' OR 1=1 --", "%", "é" * 5000])
async def test_a_run_id_that_is_none_is_not_found(database_url: str, name: str) -> None:
    async with Database(database_url).opened() as database:
        await database.write(new_run)
        assert await database.read(lambda connection: find_run(connection, Visibility(1), RunRef(run_id=name))) is None


async def test_unfinished_runs_are_listed_oldest_first_for_every_organization(database_url: str) -> None:
    def unit(connection: Connection) -> list[list[int]]:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        made = [
            new_run(connection, status, organization_id=1 + number % 2)
            for number, status in enumerate([*RunStatus, *RunStatus])
        ]
        expected = [run.id for run in made if run.status is RunStatus.RUNNING]
        return [expected, list_unfinished(connection, RunStatus.RUNNING)]

    async with Database(database_url).opened() as database:
        expected, found = await database.write(unit)
    assert found == expected
    assert len(found) == 2


def test_status_is_set_in_one_place_of_the_source() -> None:
    """Find every ``update(...).values(...)`` and every text of SQL that could write a run's status."""
    source = Path(unpause.__file__).parent
    places = [
        (str(file.relative_to(source)), ast.unparse(node))
        for file in sorted(source.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if _writes_status(node)
    ]
    assert [file for file, _ in places] == ["store/runs.py"] * 2, places


def _writes_status(node: ast.AST) -> bool:
    """Whether the node sets ``status`` of runs: at the birth of a run, or in an UPDATE."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        words = node.value.upper().split()
        return "UPDATE" in words and "RUNS" in words and "SET" in words
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "values"):
        return False
    about_runs = any(
        isinstance(inner, ast.Call)
        and isinstance(inner.func, ast.Name)
        and inner.func.id in {"insert", "update"}
        and any(isinstance(argument, ast.Name) and argument.id == "runs" for argument in inner.args)
        for inner in ast.walk(node.func)
    )
    return about_runs and any(keyword.arg == "status" for keyword in node.keywords)
