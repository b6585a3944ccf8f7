"""Workers that died under a run are forgotten once a call of it has ended, and not because one began."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, select, update

from tests.support.databases import NOW
from tests.support.runs import start
from tests.support.serving import running
from tests.support.toolless import Toolless
from unpause.agents.driver import CallResult, Completed, Journal, NewMessage, ProposedCall, Segment, SegmentEnd
from unpause.bootstrap import Application
from unpause.domain.runs import Outcome, Run, RunStatus, TranscriptEntry
from unpause.store.tables import runs

_CRASHES = 3


class CountingDriver(Toolless):
    """Makes one call, and notes after its start and its end how many workers are said to have died under the run."""

    agent_id = agent_name = "counting"
    model_name = "none"
    model_provider = "tests"

    def __init__(self) -> None:
        self.application: Application | None = None
        self.seen: list[int] = []

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Call once and complete."""
        entry = TranscriptEntry("e", "assistant", None, NOW)
        journal.record_turn([NewMessage({}, (entry,))], [ProposedCall("call", "act", {})])
        await journal.start_call("call", idempotent=True)
        await self._look(segment.run)
        await journal.finish_call("call", CallResult(Outcome.SUCCESS, "done", "done"))
        await self._look(segment.run)
        return Completed("done")

    async def _look(self, run: Run) -> None:
        assert self.application is not None
        query = select(runs.c.crashes).where(runs.c.id == run.id)
        self.seen.append(
            await self.application.database.read(lambda connection: connection.execute(query).scalar_one())
        )


async def test_a_call_that_ends_and_not_one_that_begins_makes_up_for_crashes(tmp_path: Path) -> None:
    driver = CountingDriver()
    async with running(tmp_path, drivers=[driver], worker=False) as application:
        driver.application = application
        run = await start(application)

        def unit(connection: Connection) -> None:
            connection.execute(update(runs).where(runs.c.id == run.id).values(crashes=_CRASHES))

        await application.database.write(unit)
        await application.executor.execute(run.id)
        ended = await application.database.read(
            lambda connection: connection.execute(select(runs.c.status).where(runs.c.id == run.id)).scalar_one()
        )
    assert driver.seen == [_CRASHES, 0]
    assert ended == RunStatus.COMPLETED.value
