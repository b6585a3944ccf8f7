"""What somebody else has locked, such as an open transaction in psql, stops nothing but what needs just that row."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from tests.support.holding_driver import HoldingDriver
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import ADA, answer, finish, follow, look, segments, start, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running, serving
from unpause.bootstrap import Application
from unpause.domain.approvals import ApprovalFilter
from unpause.domain.events import EventType
from unpause.domain.idempotency import RequestKey
from unpause.domain.paging import Page
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import Run, RunRef, RunStatus
from unpause.errors import DatabaseBusy, IdempotencyMismatch, InvalidTransition
from unpause.services.commands import Accepted, ContinueRun, CreateRun, ResolveApproval, Resolved

_DEADLINE = 60


@asynccontextmanager
async def locked(url: str, query: LiteralString, *values: object) -> AsyncIterator[None]:
    """Hold what the query locks for the length of the block."""
    with closing(psycopg.connect(url.replace("+psycopg", ""), application_name="psql")) as connection:
        # In a thread: what it waits for may be a transaction of this event loop.
        await asyncio.to_thread(connection.execute, query, values)
        yield


def locked_run(url: str, *runs: Run) -> Any:  # noqa: ANN401 - a context manager
    return locked(url, "SELECT id FROM runs WHERE id = ANY(%s) FOR UPDATE", [run.id for run in runs])


async def paused(application: Application) -> Run:
    return (await start_and_follow(application)).run


def yes(application: Application, run: Run) -> Any:  # noqa: ANN401 - a coroutine
    return answer(application, run, ToolAnswer(f"call-{run.id}", confirmed=True))


async def test_a_cancel_that_waits_for_its_run_is_of_the_time_when_it_has_it(tmp_path: Path, postgres_url: str) -> None:
    """By an earlier time nobody who follows the inbox would find what it has closed."""
    async with running(tmp_path, drivers=[ScriptedDriver()], database_url=postgres_url) as application:
        run = await paused(application)
        async with locked_run(postgres_url, run):
            cancelling = asyncio.create_task(application.service.cancel_run(ADA, RunRef(id=run.id)))
            await asyncio.wait({cancelling}, timeout=0.3)
            held_until = application.clock.now()
        ended = await cancelling
        assert ended.ended_at is not None
        assert ended.ended_at >= held_until


async def test_a_request_waits_for_a_locked_row_so_long_and_changes_nothing(tmp_path: Path, postgres_url: str) -> None:
    settings: dict[str, Any] = {"database_url": postgres_url, "lock_timeout_seconds": 0.3}
    async with running(tmp_path, drivers=[ScriptedDriver()], **settings) as application:
        run = await paused(application)
        async with locked_run(postgres_url, run):
            for requested in (
                yes(application, run),
                application.service.cancel_run(ADA, RunRef(id=run.id)),
                application.service.pause_run(ADA, RunRef(id=run.id)),
            ):
                with pytest.raises(DatabaseBusy, match=f"Run {run.id} is locked by another transaction"):
                    await requested
            with pytest.raises(DatabaseBusy, match=f"Session {run.session_id} is locked"):
                await application.sessions.delete_session(ADA, run.session_id)
        async with locked(postgres_url, "SELECT id FROM sessions WHERE session_id = %s FOR UPDATE", run.session_id):
            with pytest.raises(DatabaseBusy, match=f"Session {run.session_id} is locked"):
                await application.service.create_run(ADA, CreateRun("scripted", "more", run.session_id))
        ended = await finish(application, run, await yes(application, run))
        assert ended.run.status is RunStatus.COMPLETED


async def test_both_apis_answer_503_with_the_time_to_come_again(tmp_path: Path, postgres_url: str) -> None:
    settings: dict[str, Any] = {"database_url": postgres_url, "lock_timeout_seconds": 0.2}
    agno = {"message": "hello", "stream": "false"}
    async with serving(tmp_path, drivers=[ScriptedDriver()], **settings) as client:
        run = (await client.post("/agents/scripted/runs", data=agno)).json()
        query = "SELECT id FROM runs WHERE run_id = %s FOR UPDATE"
        async with locked(postgres_url, query, run["run_id"]):
            tools = f'[{{"tool_call_id": "{run["tools"][0]["tool_call_id"]}", "confirmed": true}}]'
            body = {"tools": tools, "stream": "false"}
            by_agno = await client.post(f"/agents/scripted/runs/{run['run_id']}/continue", data=body)
            by_codegen = await client.post(
                "/v1/organizations/1/agent/run/resume", json={"agent_run_id": 1, "prompt": "go on"}
            )
    assert (by_agno.status_code, by_agno.headers["retry-after"]) == (503, "1")
    assert by_agno.json() == {"detail": f"Run {run['run_id']} is locked by another transaction. Try again."}
    assert (by_codegen.status_code, by_codegen.headers["retry-after"]) == (503, "1")
    assert by_codegen.json() == {"message": "Run 1 is locked by another transaction. Try again.", "status_code": 503}


async def test_who_waits_for_a_locked_run_leaves_the_node_to_the_others(tmp_path: Path, postgres_url: str) -> None:
    settings: dict[str, Any] = {"database_url": postgres_url, "lock_timeout_seconds": 60.0, "database_connections": 4}
    async with running(tmp_path, drivers=[ScriptedDriver()], **settings) as application:
        run = await paused(application)
        async with locked_run(postgres_url, run):
            waiting = [asyncio.create_task(yes(application, run)) for _ in range(12)]
            # All of them have reached the database.
            await asyncio.sleep(0.3)
            async with asyncio.timeout(_DEADLINE / 2):
                other = await paused(application)
                ended = await finish(application, other, await yes(application, other))
            assert ended.run.status is RunStatus.COMPLETED
            assert not any(task.done() for task in waiting)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        (won,) = [result for result in results if isinstance(result, Accepted)]
        assert [type(result) for result in results].count(InvalidTransition) == 11
        assert (await finish(application, run, won)).run.status is RunStatus.COMPLETED


async def test_locked_running_runs_hold_up_no_others_and_lose_nothing(tmp_path: Path, postgres_url: str) -> None:
    driver = HoldingDriver()
    async with running(tmp_path, drivers=[driver], database_url=postgres_url) as application:
        stuck = [await start(application) for _ in range(3)]
        await driver.has_started(3)
        async with locked_run(postgres_url, *stuck):
            # They have something to write, and their ends.
            await driver.let_go()
            async with asyncio.timeout(_DEADLINE):
                others = [await start(application) for _ in range(12)]
                for run in others:
                    await follow(application, run)
            assert [(await look(application, run)).run.status for run in others] == [RunStatus.COMPLETED] * 12
            assert {(await look(application, run)).run.status for run in stuck} == {RunStatus.RUNNING}
        for run in stuck:
            await follow(application, run)
            kinds = await segments(application, run)
            assert (kinds.count(EventType.RUN_COMPLETED), kinds.count(EventType.CONTENT_DELTA)) == (1, 1)


async def test_a_locked_run_is_passed_over_by_claims(tmp_path: Path, postgres_url: str) -> None:
    settings: dict[str, Any] = {"database_url": postgres_url, "max_running": 1}
    async with running(tmp_path, drivers=[ScriptedDriver()], worker=False, **settings) as application:
        first = await start(application)
    async with (
        locked_run(postgres_url, first),
        running(tmp_path, drivers=[ScriptedDriver()], **settings) as application,
    ):
        second = await start(application)
        await follow(application, second)
        assert (await look(application, first)).run.status is RunStatus.PENDING


async def test_an_open_transaction_does_not_keep_a_node_from_stopping(tmp_path: Path, postgres_url: str) -> None:
    driver = HoldingDriver()
    settings: dict[str, Any] = {"lock_timeout_seconds": 0.2, "shutdown_grace_seconds": 0.2}
    async with asyncio.timeout(_DEADLINE):
        async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
            run = await start(application)
            await driver.has_started(1)
            lock = locked_run(postgres_url, run)
            await lock.__aenter__()
            await driver.let_go()
        await lock.__aexit__(None, None, None)


async def test_one_key_for_a_decision_and_a_continue_at_once_is_no_deadlock(tmp_path: Path, postgres_url: str) -> None:
    driver = PausingDriver((need("a", approval="required"),))
    async with running(tmp_path, drivers=[driver], database_url=postgres_url) as application:
        for number in range(6):
            run = (await start_and_follow(application)).run
            (approval, _), *_ = await approvals_of(application, run)
            resolving, continuing = (RequestKey(1, f"key {number}", what) for what in ("resolve", "continue"))
            decision = ResolveApproval(approval.id, approved=True)
            resolved, continued = await asyncio.gather(
                application.approvals.resolve_approval(ADA, decision, resolving),
                application.service.continue_run(ADA, RunRef(id=run.id), ContinueRun(prompt="go"), continuing),
                return_exceptions=True,
            )
            assert isinstance(resolved, Resolved), resolved
            # Before the decision it may not come, and after it the key is the decision's.
            assert type(continued).__name__ in {"ApprovalPending", "IdempotencyMismatch"}, continued
            if isinstance(continued, IdempotencyMismatch):
                assert (await look(application, run)).run.status is RunStatus.PAUSED


async def approvals_of(application: Application, run: Run) -> list[Any]:
    return (await application.approvals.list_approvals(ADA, ApprovalFilter(run_id=run.run_id), Page()))[0]


async def test_an_open_transaction_in_the_sqlite_shell_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    driver = HoldingDriver()
    async with running(tmp_path, drivers=[driver], lock_timeout_seconds=0.1) as application:
        run = await start(application)
        await driver.has_started(1)
        with closing(sqlite3.connect(tmp_path / "unpause.db")) as shell:
            shell.execute("BEGIN IMMEDIATE")
            await driver.let_go()
            with pytest.raises(DatabaseBusy):
                await start(application)
        await follow(application, run)
        assert (await look(application, run)).run.status is RunStatus.COMPLETED
