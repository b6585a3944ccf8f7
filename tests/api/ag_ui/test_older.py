"""What a client of before AG-UI 1.0 gets in place of what it does not know."""

from __future__ import annotations

from ag_ui.core import (
    Interrupt,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedOutcome,
    RunFinishedSuccessOutcome,
    TextMessageEndEvent,
)

from unpause.api.ag_ui.wire.older_clients import for_older_client


def ended(outcome: RunFinishedOutcome) -> RunFinishedEvent:
    return RunFinishedEvent(thread_id="t", run_id="r", result="done", outcome=outcome)


def test_a_cancelled_run_is_an_error_with_that_code() -> None:
    event = for_older_client(ended(RunFinishedCancelledOutcome()))
    assert event == RunErrorEvent(message="The run was cancelled", code="cancelled")


def test_a_success_does_not_name_the_calls_that_wait_for_the_page() -> None:
    event = for_older_client(ended(RunFinishedSuccessOutcome(pending_tool_call_ids=["c"])))
    assert event == ended(RunFinishedSuccessOutcome())


def test_all_else_is_the_same() -> None:
    interrupted = ended(RunFinishedInterruptOutcome(interrupts=[Interrupt(id="i", reason="tool_call")]))
    for event in (interrupted, TextMessageEndEvent(message_id="m")):
        assert for_older_client(event) is event
