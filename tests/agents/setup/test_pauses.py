"""Where a wish to pause is heard within a segment."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.mortal_journal import MortalJournal, setup_run
from tests.support.planning import REPOSITORY, PlanningModel, make_checkout
from unpause.agents.driver import Paused
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.redaction import Redaction
from unpause.agents.setup.driver import SetupCommandsDriver
from unpause.agents.setup.segment import CommandSettings
from unpause.clock import RandomIds, SystemClock
from unpause.domain.runs import CallStatus


class HeardAtTheStart(MortalJournal):
    """Hears of the wish with the commit of a call's start, as it does of one that came to another process."""

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        """Note the start, and hear."""
        await super().start_call(call_id, idempotent=idempotent)
        self.stop_requested = True


def driver_of(model: PlanningModel, root: Path) -> SetupCommandsDriver:
    options = DriverOptions(RandomIds(), Redaction({}))
    own = PydanticAIDriver(model.agent(), options).model
    return SetupCommandsDriver(own, options, CommandSettings(root, 30.0, 10_000, os.defpath), SystemClock())


async def test_a_wish_heard_with_the_start_of_a_command_keeps_it_from_running(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    journal = HeardAtTheStart(setup_run("Prepare it.", REPOSITORY))
    driver = driver_of(PlanningModel(["echo 1 >> trace"]), tmp_path)
    end = await driver.run_segment(journal.segment(), journal)
    assert end == Paused((), usage=end.usage)
    assert [call.status for call in journal.segment().calls] == [CallStatus.PROPOSED]
    assert not (checkout / "trace").exists()


async def test_a_wish_is_heard_before_the_model_is_asked(tmp_path: Path) -> None:
    make_checkout(tmp_path)
    model = PlanningModel()
    journal = MortalJournal(setup_run("Prepare it.", REPOSITORY))
    journal.stop_requested = True
    end = await driver_of(model, tmp_path).run_segment(journal.segment(), journal)
    assert end == Paused((), usage=end.usage)
    assert model.prompts == []
