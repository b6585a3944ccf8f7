"""Dies once at every commit of a whole story: nothing that succeeded runs again, and the end is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.full import IS_FULL
from tests.support.mortal_journal import MortalJournal, run_to_the_end, setup_run
from tests.support.planning import REPOSITORY, PlanningModel, make_checkout
from unpause.agents.driver import Completed
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.redaction import Redaction
from unpause.agents.setup.driver import SetupCommandsDriver
from unpause.agents.setup.segment import CommandSettings
from unpause.clock import RandomIds, SystemClock

# The third fails and is corrected verbatim; the fifth fails, and the model plans anew on advice.
PLAN = [*(f"echo {number} >> trace" for number in (1, 2)), "exit 3", "echo 4 >> trace", "exit 5", "echo 6 >> trace"]
AGAIN = ["echo 5b >> trace", "echo 6b >> trace"]
ANSWERS = {"exit code 3": "$ echo 3b >> trace", "exit code 5": "Leave six alone."}
TRACES = ["1", "2", "3b", "4", "5b", "6b"]


class OneOrTheOther(PlanningModel):
    """Plans by what it is asked, however often that is."""

    def next_plan(self) -> list[str]:
        """Return the first plan, or what remains of it after the advice."""
        return AGAIN if "Leave six alone." in self.prompts[-1] else PLAN


async def tell(root: Path, dies_at: int, *, after: bool) -> tuple[MortalJournal, list[str], str]:
    """Tell the story with one death; return the journal, what ran, and the run's last words."""
    checkout = make_checkout(root)
    options = DriverOptions(RandomIds(), Redaction({}))
    model = PydanticAIDriver(OneOrTheOther().agent(), options).model
    driver = SetupCommandsDriver(model, options, CommandSettings(root, 30.0, 10_000, os.defpath), SystemClock())
    journal = MortalJournal(setup_run("Prepare it.", REPOSITORY), dies_at, after=after)
    end = await run_to_the_end(driver, journal, ANSWERS)
    assert isinstance(end, Completed), end
    return journal, (checkout / "trace").read_text(encoding="utf-8").split(), end.content


async def test_without_a_death_everything_runs_once(tmp_path: Path) -> None:
    _, traces, sent = await tell(tmp_path, 0, after=False)
    assert traces == TRACES
    script = "\n".join(f"echo {number} >> trace" for number in TRACES)
    assert sent.endswith(f"Script:\n```sh\n{script}\n```")


@pytest.mark.parametrize("after", [False, True])
async def test_whichever_commit_it_dies_at_nothing_that_succeeded_runs_again(tmp_path: Path, after: bool) -> None:  # noqa: FBT001
    whole, _, reported = await tell(tmp_path / "whole", 0, after=False)
    repeated = 0
    # What ends in no doubt, wherever it dies, is looked at here and there in the short form.
    for dies_at in range(1, whole.commits + 1, 4 if after and not IS_FULL else 1):
        _, traces, sent = await tell(tmp_path / str(dies_at), dies_at, after=after)
        # Only the command that was running may have run twice: a human has confirmed that.
        assert sorted(set(traces), key=traces.index) == TRACES, dies_at
        assert len(traces) <= len(TRACES) + 1, dies_at
        repeated += len(traces) - len(TRACES)
        assert sent.partition("Script:")[2] == reported.partition("Script:")[2], dies_at
    # Dying before the commit of an end leaves a command in doubt; dying after it never does.
    assert repeated == (0 if after else len(TRACES))
