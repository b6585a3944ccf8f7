"""Under which ids people answer: a call's own the first time it is asked about, another one each time after that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.pausing_driver import need
from tests.support.server import SettableClock
from unpause.clock import RandomIds
from unpause.domain.requirements import Requirement
from unpause.domain.runs import CallStatus, ToolCall
from unpause.execution.requirements import PauseRules, RequirementFactory, doubt_request

CLOCK = SettableClock()
PROPOSED = ToolCall("call", "tool", {"of": 1}, 0, 0, CLOCK.now())
STARTED = replace(PROPOSED, status=CallStatus.STARTED, started_at=CLOCK.now())


@pytest.fixture
def factory() -> RequirementFactory:
    return RequirementFactory(CLOCK, RandomIds(), PauseRules())


def requested(factory: RequirementFactory, call: ToolCall) -> Requirement:
    """Return what one call is asked about, in doubt or not."""
    (requirement,) = factory.create([(doubt_request(call) if call.in_doubt else need("call"), call)])
    return requirement


def test_the_first_question_about_a_call_has_the_id_of_the_call(factory: RequirementFactory) -> None:
    requirement = requested(factory, PROPOSED)
    assert (requirement.tool_call_id, requirement.call_id) == ("call", "call")


@pytest.mark.parametrize("call", [PROPOSED, STARTED])
def test_every_further_question_about_a_call_has_an_id_of_its_own(factory: RequirementFactory, call: ToolCall) -> None:
    seen = [requested(factory, PROPOSED)]
    for _ in range(3):
        seen.append(requested(factory, replace(call, requirement=seen[-1])))
    assert len({requirement.tool_call_id for requirement in seen}) == len(seen)
    assert {requirement.call_id for requirement in seen} == {"call"}


def test_a_call_in_doubt_never_has_its_own_id_because_a_client_may_know_it(factory: RequirementFactory) -> None:
    assert requested(factory, STARTED).tool_call_id != "call"


@pytest.mark.parametrize("call", [PROPOSED, STARTED])
def test_an_id_is_never_longer_than_is_kept(factory: RequirementFactory, call: ToolCall) -> None:
    long = replace(call, tool_call_id="i" * 255)
    first = factory.create([(need(long.tool_call_id), long)])[0]
    second = factory.create([(need(long.tool_call_id), replace(long, requirement=first))])[0]
    assert max(len(first.tool_call_id), len(second.tool_call_id)) <= 255


def test_the_requirements_of_one_pause_share_its_id_and_those_of_two_do_not(factory: RequirementFactory) -> None:
    calls = [replace(PROPOSED, tool_call_id=name) for name in "ab"]
    pauses = [{each.pause_id for each in factory.create([(need(c.tool_call_id), c) for c in calls])} for _ in range(2)]
    assert [len(pause) for pause in pauses] == [1, 1]
    assert pauses[0] != pauses[1]
