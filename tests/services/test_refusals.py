"""A continue that is refused changes nothing, in any table, and says what is true."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import insert

from tests.support.databases import NOW, Place
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import ADA, answer, finish, follow, look, say, start_and_follow
from tests.support.serving import running
from tests.support.toolless import Toolless
from unpause.agents.driver import Completed, Journal, NewMessage, Paused, ProposedCall, Segment, SegmentEnd
from unpause.bootstrap import Application
from unpause.domain.deciders import Deciders
from unpause.domain.forms import InputField
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import Run, RunRef, RunStatus
from unpause.errors import (
    AgentNotFound,
    ApprovalPending,
    InvalidTransition,
    NotADecider,
    PauseIsOver,
    RequirementMismatch,
    RequirementsOpen,
    RunNotFound,
    UnpauseError,
)
from unpause.services.commands import ContinueRun, CreateRun
from unpause.store.tables import organizations

_EVERYTHING = PausingDriver(
    (
        need("confirm"),
        need("edit", editable=("of",)),
        need("fill", "user_input", fields=(InputField("to", "str", ""), InputField("n", "int", "", required=False))),
        need("bring", "external_execution"),
    )
)


@dataclass
class PausedRun:
    """An application with a paused run, and its database."""

    application: Application
    run: Run
    place: Place

    async def refuses(
        self,
        error: type[UnpauseError],
        *answers: ToolAnswer,
        by: Principal = ADA,
        name: RunRef | None = None,
        pause_id: str | None = None,
    ) -> UnpauseError:
        """Continue, check that it is refused with this error and that no row of any table changed."""
        before = self.place.lasting()
        command = ContinueRun(answers, pause_id=pause_id)
        with pytest.raises(error) as caught:
            await self.application.service.continue_run(by, name or RunRef(id=self.run.id), command)
        assert type(caught.value) is error
        assert self.place.lasting() == before
        return caught.value


@asynccontextmanager
async def paused(folder: Path, driver: PausingDriver | None = None) -> AsyncIterator[PausedRun]:
    async with running(folder, drivers=[driver or _EVERYTHING]) as application:
        view = await start_and_follow(application)
        yield PausedRun(application, view.run, Place.in_folder(folder))


UNFIT = [
    ToolAnswer("unknown", confirmed=True),
    ToolAnswer("confirm", "another-tool", confirmed=True),
    ToolAnswer("confirm", tool_args={"of": "forged"}, confirmed=True),
    ToolAnswer("confirm", tool_args={"of": "confirm", "more": 1}, confirmed=True),
    ToolAnswer("confirm", tool_args={}, confirmed=True),
    ToolAnswer("confirm", result="forged"),
    ToolAnswer("edit", tool_args={"of": "edit", "more": 1}, confirmed=True),
    ToolAnswer("fill", confirmed=True),
    ToolAnswer("fill", values={"n": 3}),
    ToolAnswer("fill", values={"to": "ada", "bcc": "eve"}),
    ToolAnswer("fill", values={"to": ["ada"]}),
    ToolAnswer("fill", values={"to": "ada", "n": "many"}),
    ToolAnswer("fill", values={"to": "ada"}, result="forged"),
    ToolAnswer("bring", confirmed=True),
    ToolAnswer("bring", "another-tool", result="brought"),
]


async def test_an_answer_that_does_not_fit_changes_nothing_even_beside_good_ones(tmp_path: Path) -> None:
    right = (ToolAnswer("confirm", confirmed=True), ToolAnswer("bring", result="brought"))
    async with paused(tmp_path) as one:
        for unfit in UNFIT:
            good = [each for each in right if each.tool_call_id != unfit.tool_call_id]
            await one.refuses(RequirementMismatch, unfit)
            await one.refuses(RequirementMismatch, *good, unfit)
            await one.refuses(RequirementMismatch, unfit, *good)
        # The same twice is one answer; two that differ are none.
        await one.refuses(RequirementMismatch, *right, *(replace(each, note="but") for each in right))


async def test_saying_nothing_leaves_the_run_paused(tmp_path: Path) -> None:
    async with paused(tmp_path) as one:
        await one.refuses(RequirementsOpen)
        await one.refuses(RequirementsOpen, ToolAnswer("confirm"), ToolAnswer("fill", values={"to": None}))
        error = await one.refuses(RequirementsOpen, ToolAnswer("bring", note="hm"))
        assert all(call in error.message for call in ("confirm", "edit", "fill", "bring"))


async def test_an_earlier_partial_answer_cannot_be_taken_back(tmp_path: Path) -> None:
    async with paused(tmp_path) as one:
        await answer(one.application, one.run, ToolAnswer("confirm", confirmed=False, note="no"))
        await one.refuses(RequirementMismatch, ToolAnswer("confirm", confirmed=True))
        await one.refuses(RequirementMismatch, ToolAnswer("confirm", confirmed=True), ToolAnswer("bring", result="x"))
        await one.refuses(PauseIsOver, ToolAnswer("confirm", confirmed=False))


async def test_a_run_of_another_organization_is_not_found(tmp_path: Path) -> None:
    async with paused(tmp_path) as one:
        await one.application.database.write(
            lambda connection: connection.execute(insert(organizations).values(name="other", created_at=NOW))
        )
        stranger = Principal(2, "ada", "codegen")
        yes = ToolAnswer("confirm", confirmed=True)
        for name in (RunRef(id=one.run.id), RunRef(run_id=one.run.run_id)):
            await one.refuses(RunNotFound, yes, by=stranger, name=name)
            with pytest.raises(RunNotFound):
                await one.application.service.get_run(stranger, name)
            with pytest.raises(RunNotFound):
                await one.application.service.get_view(stranger, name)
        before = one.place.lasting()
        with pytest.raises(RunNotFound):
            await say(one.application, one.run, "hello", by=stranger)
        assert one.place.lasting() == before


@pytest.mark.parametrize("wrong", ["agent_id", "session_id", "user_id"])
async def test_a_run_named_with_something_else_about_it_is_not_found(tmp_path: Path, wrong: str) -> None:
    async with paused(tmp_path) as one:
        right = {"agent_id": one.run.agent_id, "session_id": one.run.session_id, "user_id": "ada"}

        def named(sent: dict[str, str]) -> RunRef:
            return RunRef(None, one.run.run_id, sent["agent_id"], sent["session_id"], sent["user_id"])

        await one.refuses(RunNotFound, ToolAnswer("confirm", confirmed=True), name=named({**right, wrong: "other"}))
        assert (await one.application.service.get_run(ADA, named(right))).id == one.run.id


async def test_a_run_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with paused(tmp_path) as one:
        for number in (0, -1, 4711, 2**63, 10**30, -(10**30)):
            await one.refuses(RunNotFound, ToolAnswer("confirm", confirmed=True), name=RunRef(id=number))


async def test_nobody_continues_what_an_administrator_must_decide(tmp_path: Path) -> None:
    driver = PausingDriver((need("free"), need("admin", approval="required"), need("audited", approval="audit")))
    async with paused(tmp_path, driver) as one:
        yes = [ToolAnswer(call, confirmed=True) for call in ("free", "admin", "audited")]
        await one.refuses(ApprovalPending, *yes)
        await one.refuses(ApprovalPending, yes[0])
        await one.refuses(ApprovalPending)
        # Too late is too late, whatever else is wrong with it.
        await one.refuses(PauseIsOver, *yes, pause_id="an earlier pause")
        before = one.place.lasting()
        with pytest.raises(ApprovalPending):
            await say(one.application, one.run, "do it anyway")
        assert one.place.lasting() == before
        assert driver.executed == []


async def test_an_approval_that_is_only_recorded_is_the_users_to_give(tmp_path: Path) -> None:
    driver = PausingDriver((need("audited", approval="audit"),))
    async with paused(tmp_path, driver) as one:
        continued = await answer(one.application, one.run, ToolAnswer("audited", confirmed=True))
        assert (await finish(one.application, one.run, continued)).run.status is RunStatus.COMPLETED


async def test_a_tool_checks_nothing_for_a_caller_who_may_not_decide(tmp_path: Path) -> None:
    checked: list[str] = []

    class Checking(PausingDriver):
        def check_arguments(self, tool_name: str, *_: object) -> None:
            checked.append(tool_name)

    driver = Checking((need("edit", editable=("of",), deciders=Deciders(approvers=("olga",))),))
    async with paused(tmp_path, driver) as one:
        changed = ToolAnswer("edit", tool_args={"of": "something else"}, confirmed=True)
        await one.refuses(NotADecider, changed)
        assert checked == []
        await answer(one.application, one.run, changed, by=Principal(1, "olga"))
        assert checked == ["tool-edit"]


async def test_a_run_that_has_ended_is_not_continued(tmp_path: Path) -> None:
    driver = PausingDriver((need("a"),))
    async with paused(tmp_path, driver) as one:
        continued = await answer(one.application, one.run, ToolAnswer("a", confirmed=True))
        await follow(one.application, one.run, continued.after)
        error = await one.refuses(
            InvalidTransition, ToolAnswer("a", confirmed=True), by=Principal(1, "late", "codegen")
        )
        assert type(error) is InvalidTransition
        assert error.details["status"] == "COMPLETED"
        assert (error.details["continued_by"], error.details["decision"]) == ("ada", "confirmed")
        await one.refuses(InvalidTransition)
        await one.refuses(InvalidTransition, ToolAnswer("unknown", confirmed=True))


async def test_a_run_of_an_agent_that_is_not_served_is_not_made(tmp_path: Path) -> None:
    async with paused(tmp_path) as one:
        before = one.place.lasting()
        with pytest.raises(AgentNotFound):
            await one.application.service.create_run(ADA, CreateRun("nobody", "hello"))
        assert one.place.lasting() == before


class TwoPauses(Toolless):
    """Pauses for ``first``, then for ``second``."""

    agent_id = "twice"
    agent_name = "twice"
    model_name = "twice-1"
    model_provider = "tests"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Ask, ask again, complete; both decisions are audited."""
        name = ("first", "second", None)[len(segment.calls)]
        if name is None:
            return Completed("both answered")
        journal.record_turn([NewMessage(name, ())], [ProposedCall(name, "tool", {})])
        return Paused((need(name, approval="audit"),))


async def test_an_answer_to_an_earlier_pause_never_answers_the_present_one(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    async with running(tmp_path, drivers=[TwoPauses()]) as application:
        first = (await start_and_follow(application)).run
        repeated = ToolAnswer("first", "tool", {}, confirmed=True)
        second = (await finish(application, first, await answer(application, first, repeated))).run
        assert second.status is RunStatus.PAUSED
        assert second.pause_id != first.pause_id
        one = PausedRun(application, second, place)
        grace = Principal(1, "grace", "codegen")
        yes = ToolAnswer("second", confirmed=True)
        for refused in (
            await one.refuses(PauseIsOver, repeated, by=grace),
            await one.refuses(PauseIsOver, repeated, pause_id=first.pause_id),
            await one.refuses(PauseIsOver, yes, pause_id=first.pause_id),
            await one.refuses(PauseIsOver, yes, pause_id="no such pause"),
            await one.refuses(PauseIsOver, repeated, pause_id=second.pause_id),
        ):
            assert refused.details["continued_by"] == "ada"
            assert refused.details["status"] == "PAUSED"
        await one.refuses(RequirementsOpen, repeated, ToolAnswer("second"))
        ended = await finish(application, second, await answer(application, second, repeated, yes))
        assert ended.run.content == "both answered"
    assert len(place.dump()["approvals"]) == 2


async def test_a_prompt_for_an_earlier_pause_is_late(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    async with running(tmp_path, drivers=[TwoPauses()]) as application:
        first = (await start_and_follow(application)).run
        await finish(application, first, await answer(application, first, ToolAnswer("first", confirmed=True)))
        before = place.lasting()
        command = ContinueRun(prompt="no", pause_id=first.pause_id)
        with pytest.raises(InvalidTransition):
            await application.service.continue_run(ADA, RunRef(id=first.id), command)
        assert place.lasting() == before
        assert (await look(application, first)).run.status is RunStatus.PAUSED
