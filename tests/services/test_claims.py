"""What a claimed run goes on from, and what its journal has on disk when a tool starts and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import NOW, new_run
from tests.support.serving import running
from unpause.agents.driver import CallResult, ProposedCall
from unpause.clock import RandomIds, SystemClock
from unpause.domain.events import EventType
from unpause.domain.runs import CallStatus, Message, Outcome, Run, RunInput, RunStatus
from unpause.errors import StorageError
from unpause.services.claims import load_claimed
from unpause.services.segment_journal import SegmentJournal
from unpause.services.segment_state import JournalContext
from unpause.store.engine.database import Connection, Database
from unpause.store.journal import add_input, add_messages, consume_inputs, list_tool_calls
from unpause.store.runs import find_by_key
from unpause.streaming.bus import InProcessBus


async def test_a_prompt_that_a_message_carries_is_not_read_again(tmp_path: Path) -> None:
    def unit(connection: Connection) -> tuple[RunInput, ...]:
        run = new_run(connection, fence=1)
        add_input(connection, run.id, RunInput(1, "first"), None, NOW)
        add_messages(connection, run.id, [Message(0, {}, ())], NOW)
        consume_inputs(connection, run.id)
        add_input(connection, run.id, RunInput(2, "second"), None, NOW)
        return load_claimed(connection, run, 10).segment.inputs

    async with running(tmp_path) as application:
        inputs = await application.database.write(unit)
    assert [each.prompt for each in inputs] == ["second"]


@asynccontextmanager
async def journaled(folder: Path) -> AsyncIterator[tuple[SegmentJournal, Run, Database]]:
    """Yield the journal of a claimed run, without the task that commits as its log grows."""
    async with running(folder) as application:
        database = application.database
        run = await database.write(lambda connection: new_run(connection, RunStatus.RUNNING, fence=1, crashes=7))
        claimed = await database.read(lambda connection: load_claimed(connection, run, 10))
        context = JournalContext(database, InProcessBus(), SystemClock(), RandomIds())
        yield SegmentJournal(context, claimed, timedelta(seconds=10)), run, database


async def test_a_call_is_on_disk_before_it_runs_and_once_it_has_ended_the_crashes_before_it_are_forgotten(
    tmp_path: Path,
) -> None:
    async with journaled(tmp_path) as (journal, run, database):

        def look(connection: Connection) -> tuple[CallStatus, int]:
            found = find_by_key(connection, run.id)
            assert found is not None
            return list_tool_calls(connection, run.id)[0].status, found.crashes

        journal.record_turn((), (ProposedCall("call", "act", {}),))
        await journal.start_call("call", idempotent=False)
        assert await database.read(look) == (CallStatus.STARTED, 7)
        await journal.finish_call("call", CallResult(Outcome.SUCCESS, "done", "done"))
        assert await database.read(look) == (CallStatus.FINISHED, 0)


async def test_no_call_starts_behind_a_commit_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with journaled(tmp_path) as (journal, _, database):
        append = database.append
        units: list[Callable[[Connection], Any]] = []

        async def refuse_the_first(unit: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 - what the unit returns
            units.append(unit)
            if len(units) > 1:
                return await append(unit)
            await asyncio.sleep(0)
            raise StorageError

        monkeypatch.setattr(database, "append", refuse_the_first)
        journal.record_turn((), (ProposedCall("call", "act", {}),))
        await journal.emit(EventType.CONTENT_DELTA, {"content": "text that the database refuses"})
        # As the segment's background task does, while the call waits to start.
        flushing = asyncio.create_task(journal.flush())
        starting = asyncio.create_task(journal.start_call("call", idempotent=False))
        results = await asyncio.gather(flushing, starting, return_exceptions=True)
    assert [type(result) for result in results] == [StorageError, StorageError]
    assert len(units) == 1
