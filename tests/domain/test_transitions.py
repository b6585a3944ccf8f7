"""The state machine, held against a table of its own: every status, every trigger, and what comes of it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from unpause.domain.events import EventType
from unpause.domain.runs import CallStatus, RunStatus, ToolCall
from unpause.domain.transitions import TRANSITIONS, Trigger

# One row for each status, one column for each trigger; the word is the status afterwards, a dot means: refused.
_GRID = """
            claim    release  pause    continue complete  fail   give_up cancel    expire
PENDING     RUNNING  .        .        .        .         .      ERROR   CANCELLED .
RUNNING     .        PENDING  PAUSED   .        COMPLETED ERROR  .       CANCELLED .
PAUSED      .        .        .        PENDING  .         .      .       CANCELLED CANCELLED
COMPLETED   .        .        .        .        .         .      .       .         .
CANCELLED   .        .        .        .        .         .      .       .         .
ERROR       .        .        .        .        .         .      .       .         .
"""


def grid() -> dict[tuple[RunStatus, Trigger], RunStatus | None]:
    """Return the table above, by status and trigger; None where the trigger is refused."""
    head, *rows = [line.split() for line in _GRID.strip().splitlines()]
    return {
        (RunStatus(row[0]), Trigger(trigger)): None if cell == "." else RunStatus(cell)
        for row in rows
        for trigger, cell in zip(head, row[1:], strict=True)
    }


def test_the_grid_names_every_status_and_every_trigger() -> None:
    assert set(grid()) == set(itertools.product(RunStatus, Trigger))
    assert set(TRANSITIONS) == set(Trigger)


@pytest.mark.parametrize(("status", "trigger", "target"), [(*key, target) for key, target in grid().items()])
def test_a_trigger_moves_a_run_as_the_grid_says(status: RunStatus, trigger: Trigger, target: RunStatus | None) -> None:
    assert (status in TRANSITIONS[trigger].sources) is (target is not None)
    if target is not None:
        assert TRANSITIONS[trigger].target is target


def test_only_what_an_executor_asks_for_needs_its_fence() -> None:
    assert {trigger for trigger, rule in TRANSITIONS.items() if rule.fenced} == {
        Trigger.PAUSE,
        Trigger.COMPLETE,
        Trigger.FAIL,
    }


def test_nothing_leaves_a_final_status() -> None:
    final = {status for status in RunStatus if status.is_final}
    assert final == {RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.ERROR}
    assert not any(final & rule.sources for rule in TRANSITIONS.values())


def test_a_segment_ends_where_a_run_pauses_or_ends() -> None:
    assert {kind for kind in EventType if kind.ends_segment} == {
        EventType.RUN_PAUSED,
        EventType.RUN_COMPLETED,
        EventType.RUN_FAILED,
        EventType.RUN_CANCELLED,
    }


@pytest.mark.parametrize("status", CallStatus)
@pytest.mark.parametrize("idempotent", [False, True])
def test_only_a_started_call_that_may_not_run_twice_is_in_doubt(status: CallStatus, idempotent: bool) -> None:  # noqa: FBT001
    now = datetime(2026, 1, 1, tzinfo=UTC)
    call = ToolCall("call", "tool", {}, 0, 0, now, status=status, idempotent=idempotent)
    assert call.in_doubt is (status is CallStatus.STARTED and not idempotent)
