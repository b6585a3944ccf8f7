"""A call in doubt is asked about under the rules of its tool: whoever had to decide before has to decide again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import Place, sqlite_url
from tests.support.gates import Gates
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import ADA, answer, finish, follow, look, open_requirements, say, start, start_and_follow
from tests.support.server import SettableClock
from tests.support.serving import application_for, settings_for
from unpause.agents.driver import Journal, NewMessage, ProposedCall, RequirementRequest, Segment, SegmentEnd
from unpause.bootstrap import Application
from unpause.domain.requirements import OnExpire, Requirement, ToolAnswer
from unpause.domain.runs import CallStatus, Outcome, Run, RunStatus
from unpause.errors import ApprovalPending, InvalidTransition, RequirementsOpen
from unpause.services.commands import ResolveApproval

_EARLIER = 250


@dataclass
class StallingDriver(PausingDriver):
    """Stands still in the middle of the call ``a``; without ``required`` it makes that call without asking."""

    gates: Gates = field(default_factory=lambda: Gates("call"))

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Ask, if there is something to ask; then start the call and get nowhere."""
        if self.required and not segment.messages:
            return await super().run_segment(segment, journal)
        if not self.required:
            journal.record_turn([NewMessage({"asked": True}, ())], [ProposedCall("a", "tool-a", {"of": "a"})])
        await journal.start_call("a", idempotent=False)
        self.executed.append(("tool-a", {"of": "a"}))
        await self.gates.pass_through("call")
        raise AssertionError


@dataclass
class Crashing:
    """Servers one after the other on one database, and what their driver ran."""

    folder: Path
    executed: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    clock: SettableClock = field(default_factory=SettableClock)

    @asynccontextmanager
    async def server(self, driver: PausingDriver, **changes: object) -> AsyncIterator[Application]:
        """Serve; the end of the block is a stop that waits for nobody."""
        settings = settings_for(self.folder, shutdown_grace_seconds=0, sweep_seconds=3600, **changes)
        application = application_for(settings, [driver], self.clock)
        async with application.running():
            yield application

    async def cut_off(self, *required: RequirementRequest, **changes: object) -> Run:
        """Make a run, have its call decided if it waits, and stop the server while the call runs."""
        driver = StallingDriver(required, self.executed)
        async with self.server(driver, **changes) as application:
            if not required:
                run = await start(application)
            else:
                view = await start_and_follow(application)
                run = view.run
                await decide(application, run, *open_requirements(view))
            await driver.gates.reached("call")
        return run

    @asynccontextmanager
    async def asking(
        self, run: Run, driver: PausingDriver | None = None, **changes: object
    ) -> AsyncIterator[tuple[Application, Requirement]]:
        """Serve again, later, and wait until the server asks about the call in doubt."""
        self.clock.move(_EARLIER)
        async with self.server(driver or PausingDriver((), self.executed), **changes) as application:
            view = await look(application, run)
            while view.run.status is not RunStatus.PAUSED:
                await follow(application, run, view.run.last_sequence)
                view = await look(application, run)
            (doubt,) = open_requirements(view)
            assert doubt.in_doubt
            yield application, doubt

    def approvals(self) -> list[tuple[str, str]]:
        """Return type and status of every approval, oldest first."""
        rows = Place(sqlite_url(self.folder / "unpause.db")).dump()["approvals"]
        return [(row["approval_type"], row["status"]) for row in sorted(rows, key=lambda row: str(row["created_at"]))]


async def resolve(application: Application, requirement: Requirement, *, approved: bool = True) -> None:
    """Decide as an administrator."""
    await application.approvals.resolve_approval(
        replace(ADA, user_id="root"), ResolveApproval(requirement.id, approved)
    )


async def decide(application: Application, run: Run, requirement: Requirement) -> int:
    """Say yes the way the requirement wants it, and continue; return where the log stood."""
    if requirement.approval == "required":
        await resolve(application, requirement)
        return (await answer(application, run)).after
    return (await answer(application, run, ToolAnswer(requirement.tool_call_id, confirmed=True))).after


@pytest.fixture
def crashing(tmp_path: Path) -> Crashing:
    return Crashing(tmp_path)


async def test_a_user_cannot_confirm_a_call_in_doubt_that_an_administrator_had_to_approve(crashing: Crashing) -> None:
    run = await crashing.cut_off(need("a", approval="required"))
    async with crashing.asking(run) as (application, doubt):
        assert (doubt.approval, doubt.approval_status) == ("required", "pending")
        assert crashing.approvals() == [("required", "approved"), ("required", "pending")]
        place = Place(application.settings.database_url)
        before = place.lasting()
        for call_id in (doubt.tool_call_id, "a"):
            with pytest.raises(ApprovalPending):
                await answer(application, run, ToolAnswer(call_id, confirmed=True))
        with pytest.raises(ApprovalPending):
            await answer(application, run)
        with pytest.raises(ApprovalPending):
            await say(application, run, "just do it")
        assert place.lasting() == before
    assert len(crashing.executed) == 1


async def test_after_a_second_approval_the_call_runs_once_more(crashing: Crashing) -> None:
    run = await crashing.cut_off(need("a", approval="required"))
    async with crashing.asking(run) as (application, doubt):
        await resolve(application, doubt)
        assert len(crashing.executed) == 1
        ended = await finish(application, run, await answer(application, run))
        with pytest.raises(InvalidTransition):
            await answer(application, run)
    assert ended.run.status is RunStatus.COMPLETED
    assert crashing.executed == [("tool-a", {"of": "a"})] * 2
    assert crashing.approvals() == [("required", "approved")] * 2


async def test_what_an_administrator_declined_the_second_time_does_not_run_again(crashing: Crashing) -> None:
    run = await crashing.cut_off(need("a", approval="required"))
    async with crashing.asking(run) as (application, doubt):
        await resolve(application, doubt, approved=False)
        yes = ToolAnswer(doubt.tool_call_id, confirmed=True)
        ended = await finish(application, run, await answer(application, run, yes))
    assert (ended.tool_calls[0].status, ended.tool_calls[0].outcome) == (CallStatus.FINISHED, Outcome.DENIED)
    assert len(crashing.executed) == 1
    assert crashing.approvals() == [("required", "approved"), ("required", "rejected")]


async def test_a_second_doubt_about_the_same_call_needs_its_approval_too(crashing: Crashing) -> None:
    run = await crashing.cut_off(need("a", approval="required", expires_in=600.0))
    stalling = StallingDriver((need("a"),), crashing.executed)
    async with crashing.asking(run, stalling) as (application, doubt):
        await decide(application, run, doubt)
        await stalling.gates.reached("call")
    async with crashing.asking(run) as (application, second):
        assert second.id != doubt.id
        assert second.approval == "required"
        assert second.expires_at is not None
        assert (second.expires_at - second.created_at).total_seconds() == 600
        with pytest.raises(ApprovalPending):
            await answer(application, run, ToolAnswer(second.tool_call_id, confirmed=True))
    assert len(crashing.executed) == 2


async def test_the_answer_about_a_call_in_doubt_is_audited_as_the_first_was(crashing: Crashing) -> None:
    run = await crashing.cut_off(need("a", approval="audit"))
    async with crashing.asking(run) as (application, doubt):
        assert doubt.approval == "audit"
        no = ToolAnswer(doubt.tool_call_id, confirmed=False, note="it ran")
        await finish(application, run, await answer(application, run, no))
    assert crashing.approvals() == [("audit", "approved"), ("audit", "rejected")]


@pytest.mark.parametrize("approval", [None, "required"])
async def test_the_time_for_an_answer_starts_anew_and_is_as_long_as_before(
    crashing: Crashing, approval: str | None
) -> None:
    required = need("a", approval=approval, expires_in=600.0, on_expire=OnExpire.CANCEL)
    run = await crashing.cut_off(required)
    async with crashing.asking(run, pause_expires_seconds=5, approval_expires_seconds=5) as (application, doubt):
        assert doubt.created_at == crashing.clock.now()
        assert doubt.expires_at is not None
        assert (doubt.expires_at - doubt.created_at).total_seconds() == 600
        assert doubt.on_expire is OnExpire.CANCEL
        crashing.clock.move(600 - _EARLIER)
        await application.expiry.sweep()
        assert (await look(application, run)).run.status is RunStatus.PAUSED
        crashing.clock.move(_EARLIER)
        await application.expiry.sweep()
        assert (await look(application, run)).run.status is RunStatus.CANCELLED
    assert len(crashing.executed) == 1


async def test_nobody_is_told_that_a_call_in_doubt_is_approved_by_waiting(crashing: Crashing) -> None:
    run = await crashing.cut_off(need("a", expires_in=60.0, on_expire=OnExpire.APPROVE))
    async with crashing.asking(run) as (application, doubt):
        assert doubt.on_expire is OnExpire.REJECT
        crashing.clock.move(60)
        last = (await look(application, run)).run.last_sequence
        await application.expiry.sweep()
        await follow(application, run, last)
        ended = await look(application, run)
    assert ended.tool_calls[0].outcome is Outcome.DENIED
    assert len(crashing.executed) == 1


async def test_a_call_that_never_waited_is_asked_about_under_the_rules_of_the_settings(crashing: Crashing) -> None:
    run = await crashing.cut_off()
    async with crashing.asking(run, on_expire="cancel", pause_expires_seconds=60) as (application, doubt):
        assert (doubt.approval, doubt.on_expire) == (None, OnExpire.CANCEL)
        assert doubt.expires_at is not None
        assert (doubt.expires_at - doubt.created_at).total_seconds() == 60
        with pytest.raises(RequirementsOpen):
            await answer(application, run)
        yes = ToolAnswer(doubt.tool_call_id, confirmed=True)
        ended = await finish(application, run, await answer(application, run, yes))
    assert ended.run.status is RunStatus.COMPLETED
    assert crashing.approvals() == []
    assert len(crashing.executed) == 2
