"""Which answers fit what a paused run waits for, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from unpause.domain.forms import InputField
from unpause.domain.requirements import (
    Answer,
    Decision,
    Requirement,
    RequirementKind,
    ToolAnswer,
    match_answers,
)
from unpause.errors import InvalidTransition, RequirementMismatch, RequirementsOpen, UnpauseError

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def requirement(call: str = "c1", kind: str = "confirmation", **changes: Any) -> Requirement:  # noqa: ANN401
    """Return an open requirement on ``delete(path="/tmp/a", force=False)``."""
    plain = Requirement(
        id=f"r-{call}",
        pause_id="pause",
        tool_call_id=call,
        call_id=call,
        tool_name="delete",
        tool_args={"path": "/tmp/a", "force": False},  # noqa: S108 - only a text
        kind=RequirementKind(kind),
        created_at=_NOW,
    )
    return replace(plain, **changes)


def answered(decision: Decision) -> Answer:
    return Answer(decision=decision, at=_NOW)


def asking(*fields: InputField, call: str = "c1", **changes: Any) -> Requirement:  # noqa: ANN401
    return requirement(call, "user_input", fields=fields, **changes)


def match(
    waits: list[Requirement], *provided: ToolAnswer, known: frozenset[str] = frozenset()
) -> dict[str, ToolAnswer]:
    return match_answers(waits, provided, known | {wait.tool_call_id for wait in waits})


def refused(error: type[UnpauseError], waits: list[Requirement], *provided: ToolAnswer, known: str = "") -> str:
    with pytest.raises(error) as caught:
        match(waits, *provided, known=frozenset({known}))
    return caught.value.message


@pytest.mark.parametrize("kind", RequirementKind)
@pytest.mark.parametrize(
    "answer",
    [
        ToolAnswer("c1"),
        ToolAnswer("c1", note="hm"),
        ToolAnswer("c1", values={}),
        ToolAnswer("c1", values={"to": None}),
        ToolAnswer("c1", tool_name="delete", tool_args={"path": "/tmp/a", "force": False}),  # noqa: S108
    ],
)
def test_silence_is_never_an_answer(kind: RequirementKind, answer: ToolAnswer) -> None:
    waits = [requirement(kind=kind.value, fields=(InputField("to", "str", ""),), editable=("path",))]
    message = refused(RequirementsOpen, waits, answer)
    assert "delete (c1)" in message
    assert kind.value.replace("_", " ") in message


def test_no_answers_at_all_say_what_is_open() -> None:
    waits = [requirement("c1"), requirement("c2", "external_execution"), requirement("c3", answer=answered(_yes()))]
    message = refused(RequirementsOpen, waits)
    assert "c1" in message
    assert "c2" in message
    assert "c3" not in message


def _yes() -> Decision:
    return Decision.CONFIRMED


@pytest.mark.parametrize("kind", RequirementKind)
def test_every_kind_can_be_rejected_with_a_note(kind: RequirementKind) -> None:
    provided = ToolAnswer("c1", confirmed=False, note="not today")
    assert match([requirement(kind=kind.value)], provided) == {"r-c1": provided}


def test_a_rejection_carries_neither_values_nor_a_result() -> None:
    waits = [asking(InputField("to", "str", "")), requirement("c2", "external_execution")]
    matched = match(
        waits,
        ToolAnswer("c1", confirmed=False, values={"bcc": "me"}),
        ToolAnswer("c2", confirmed=False, values={"x": 1}, result="done"),
    )
    assert [(sent.values, sent.result) for sent in matched.values()] == [(None, None), (None, None)]


def test_a_confirmation_confirms_and_brings_nothing_along() -> None:
    matched = match([requirement()], ToolAnswer("c1", confirmed=True, values={"path": "/etc"}))
    assert matched["r-c1"].values is None


@pytest.mark.parametrize("kind", ["confirmation", "user_input"])
@pytest.mark.parametrize("confirmed", [None, True, False])
def test_a_result_for_a_call_that_the_server_runs_is_forged(kind: str, confirmed: bool | None) -> None:  # noqa: FBT001
    message = refused(RequirementMismatch, [requirement(kind=kind)], ToolAnswer("c1", confirmed=confirmed, result="ok"))
    assert "delete" in message


def test_an_external_result_is_taken_as_it_is_even_when_empty() -> None:
    waits = [requirement(kind="external_execution")]
    assert match(waits, ToolAnswer("c1", result=""))["r-c1"].result == ""
    matched = match(waits, ToolAnswer("c1", confirmed=True, result="ok", values={"path": "/etc"}))
    assert matched["r-c1"].result == "ok"
    assert matched["r-c1"].values is None


def test_an_external_call_is_not_done_by_confirming_it() -> None:
    message = refused(RequirementMismatch, [requirement(kind="external_execution")], ToolAnswer("c1", confirmed=True))
    assert "requires external execution" in message


@pytest.mark.parametrize("confirmed", [None, True, False])
def test_another_tool_name_is_refused_whatever_else_is_said(confirmed: bool | None) -> None:  # noqa: FBT001
    message = refused(RequirementMismatch, [requirement()], ToolAnswer("c1", "format_disk", confirmed=confirmed))
    assert "format_disk" in message
    assert "delete" in message


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": "/etc", "force": False},
        {"path": "/tmp/a", "force": True},  # noqa: S108
        {"path": "/tmp/a", "force": 0},  # noqa: S108
        {"path": "/tmp/a"},  # noqa: S108
        {"path": "/tmp/a", "force": False, "extra": 1},  # noqa: S108
        {"path": None, "force": False},
        {},
    ],
)
@pytest.mark.parametrize("kind", RequirementKind)
@pytest.mark.parametrize("confirmed", [True, False])
def test_other_arguments_are_refused(arguments: dict[str, Any], kind: RequirementKind, confirmed: bool) -> None:  # noqa: FBT001
    provided = ToolAnswer("c1", tool_args=arguments, confirmed=confirmed)
    assert "c1" in refused(RequirementMismatch, [requirement(kind=kind.value)], provided)


def test_a_number_may_come_back_as_other_programs_write_it() -> None:
    waits = [requirement(tool_args={"sizes": [{"a": 1.0}, 2]})]
    assert match(waits, ToolAnswer("c1", tool_args={"sizes": [{"a": 1}, 2.0]}, confirmed=True))
    for other in ([{"a": True}, 2], [{"a": 1}, 2, 2], [[1], 2], [{"a": 1, "b": None}, 2]):
        refused(RequirementMismatch, waits, ToolAnswer("c1", tool_args={"sizes": other}, confirmed=True))


def test_editable_arguments_may_change_and_only_the_changed_ones_are_kept() -> None:
    waits = [requirement(editable=("path", "force", "depth"))]
    provided = ToolAnswer("c1", tool_args={"path": "/tmp/b", "force": False, "depth": 2}, confirmed=True)  # noqa: S108
    assert match(waits, provided)["r-c1"].values == {"path": "/tmp/b", "depth": 2}  # noqa: S108
    fixed = [requirement(editable=("path",))]
    assert "'force'" in refused(
        RequirementMismatch,
        fixed,
        ToolAnswer("c1", tool_args={"path": "/tmp/b", "force": True}, confirmed=True),  # noqa: S108
    )


def test_unchanged_editable_arguments_are_no_edit() -> None:
    provided = ToolAnswer("c1", tool_args={"path": "/tmp/a", "force": False}, confirmed=True)  # noqa: S108
    assert match([requirement(editable=("path",))], provided)["r-c1"].values is None


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("confirmation", {"confirmed": True}, {"confirmed": False}),
        ("confirmation", {"confirmed": False, "note": "a"}, {"confirmed": False, "note": "b"}),
        ("confirmation", {"confirmed": True, "tool_args": {"path": "/x", "force": False}}, {"confirmed": True}),
        ("external_execution", {"result": "one"}, {"result": "two"}),
        ("external_execution", {"result": "one"}, {"confirmed": False}),
        ("user_input", {"values": {"path": "/x"}}, {"values": {"path": "/y"}}),
    ],
)
def test_two_answers_to_an_open_call_that_differ_are_refused(
    kind: str, first: dict[str, Any], second: dict[str, Any]
) -> None:
    fields = (InputField("path", "str", ""),)
    wait = requirement("c1", kind, editable=("path",), fields=fields if kind == "user_input" else ())
    twice = (ToolAnswer("c1", **first), ToolAnswer("c1", **second))
    assert "answered twice" in refused(RequirementMismatch, [wait], *twice)
    assert "answered twice" in refused(RequirementMismatch, [wait], *reversed(twice))


def test_the_same_answer_sent_twice_or_beside_an_echo_is_one() -> None:
    yes, echo = ToolAnswer("c1", confirmed=True), ToolAnswer("c1", "delete", {"path": "/tmp/a", "force": False})  # noqa: S108
    assert match([requirement()], echo, yes, yes, echo) == {"r-c1": yes}


def test_settled_calls_sent_back_are_no_answer_however_often() -> None:
    # As a run lists them whose call was once in doubt: twice, both under the call's own id.
    settled = (ToolAnswer("old", confirmed=True), ToolAnswer("old", confirmed=False), ToolAnswer("old", result="done"))
    yes = ToolAnswer("c1", confirmed=True)
    assert match([requirement()], *settled, yes, known=frozenset({"old"})) == {"r-c1": yes}
    refused(InvalidTransition, [requirement()], *settled, known="old")


def test_an_unknown_call_is_refused_even_beside_a_good_answer() -> None:
    provided = (ToolAnswer("c1", confirmed=True), ToolAnswer("injected", "format_disk", confirmed=True))
    assert "injected" in refused(RequirementMismatch, [requirement()], *provided)


def test_answers_for_settled_calls_alone_come_late() -> None:
    refused(InvalidTransition, [requirement()], ToolAnswer("old", confirmed=True), known="old")
    done = requirement("c0", answer=answered(Decision.CONFIRMED))
    refused(InvalidTransition, [done, requirement()], ToolAnswer("c0", confirmed=True))


def test_an_echo_of_a_settled_call_beside_a_good_answer_is_ignored() -> None:
    good = ToolAnswer("c1", confirmed=True)
    matched = match([requirement()], ToolAnswer("old", "whatever", confirmed=False), good, known=frozenset({"old"}))
    assert matched == {"r-c1": good}


def test_an_echo_of_a_settled_call_beside_silence_leaves_the_run_open() -> None:
    refused(RequirementsOpen, [requirement()], ToolAnswer("old", confirmed=True), ToolAnswer("c1"), known="old")


@pytest.mark.parametrize(
    ("before", "now"), [(Decision.REJECTED, True), (Decision.CONFIRMED, False), (Decision.ANSWERED, False)]
)
def test_an_earlier_answer_cannot_be_contradicted(before: Decision, now: bool) -> None:  # noqa: FBT001
    waits = [requirement("c0", answer=answered(before)), requirement()]
    provided = (ToolAnswer("c0", confirmed=now), ToolAnswer("c1", confirmed=True))
    assert before.value in refused(RequirementMismatch, waits, *provided)


def test_an_earlier_answer_said_again_changes_nothing() -> None:
    waits = [requirement("c0", answer=answered(Decision.REJECTED)), requirement()]
    assert set(match(waits, ToolAnswer("c0", confirmed=False), ToolAnswer("c1", confirmed=True))) == {"r-c1"}


def test_an_answered_call_must_still_be_named_as_it_was_shown() -> None:
    waits = [requirement("c0", answer=answered(Decision.CONFIRMED)), requirement()]
    good = ToolAnswer("c1", confirmed=True)
    refused(RequirementMismatch, waits, ToolAnswer("c0", "format_disk"), good)
    refused(RequirementMismatch, waits, ToolAnswer("c0", tool_args={"path": "/etc"}), good)


def test_some_of_several_may_be_answered() -> None:
    waits = [requirement("c1"), requirement("c2"), requirement("c3", "external_execution")]
    matched = match(waits, ToolAnswer("c2", confirmed=True), ToolAnswer("c3", result="ok"), ToolAnswer("c1"))
    assert set(matched) == {"r-c2", "r-c3"}
