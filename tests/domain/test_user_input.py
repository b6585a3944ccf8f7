"""Values that a human fills in: declared fields only, all required ones, of the declared type."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.domain.test_match_answers import asking, match, refused
from unpause.domain.forms import InputField
from unpause.domain.requirements import Answer, Decision, ToolAnswer
from unpause.errors import RequirementMismatch, RequirementsOpen

_TO = InputField("to", "str", "Who gets it")
_COPIES = InputField("copies", "int", "How many", required=False)
_SUBJECT = InputField("subject", "str", "Chosen by the model", value="Hi", open=False)


@pytest.mark.parametrize(
    ("field_type", "provided", "kept"),
    [
        ("str", "5", "5"),
        ("str", "", ""),
        ("int", 5, 5),
        ("int", "5", 5),
        ("int", 5.0, 5),
        ("float", 1, 1.0),
        ("float", "1.5", 1.5),
        ("bool", True, True),
        ("bool", "false", False),
        ("bool", 0, False),
        ("list", ["a", 1, None], ["a", 1, None]),
        ("list", [], []),
        ("dict", {"a": {"b": 1}}, {"a": {"b": 1}}),
        ("SomeType", {"as": "sent"}, {"as": "sent"}),
    ],
)
def test_a_value_is_kept_in_the_type_of_its_field(field_type: str, provided: object, kept: object) -> None:
    matched = match([asking(InputField("to", field_type, ""))], ToolAnswer("c1", values={"to": provided}))
    values = matched["r-c1"].values or {}
    assert values == {"to": kept}
    assert type(values["to"]) is type(kept)


@pytest.mark.parametrize(
    ("field_type", "provided"),
    [
        ("str", 5),
        ("str", ["a"]),
        ("int", "five"),
        ("int", 5.5),
        ("int", [5]),
        ("float", "much"),
        ("bool", "perhaps"),
        ("bool", 2),
        ("list", "a,b"),
        ("list", {"a": 1}),
        ("dict", "{}"),
        ("dict", ["a"]),
    ],
)
@pytest.mark.parametrize("confirmed", [None, True])
def test_a_value_of_another_type_is_refused(field_type: str, provided: object, confirmed: bool | None) -> None:  # noqa: FBT001
    waits = [asking(InputField("to", field_type, ""))]
    message = refused(RequirementMismatch, waits, ToolAnswer("c1", confirmed=confirmed, values={"to": provided}))
    assert "'to'" in message
    assert "c1" in message


def test_a_refused_value_is_not_repeated_in_the_message() -> None:
    waits = [asking(InputField("pin", "int", ""))]
    assert "hunter2" not in refused(RequirementMismatch, waits, ToolAnswer("c1", values={"pin": "hunter2"}))


def test_an_undeclared_field_is_refused() -> None:
    provided = ToolAnswer("c1", values={"to": "a@b", "bcc": "me"})
    assert "bcc" in refused(RequirementMismatch, [asking(_TO, _SUBJECT)], provided)


def test_an_argument_is_no_field_unless_it_is_declared_one() -> None:
    assert "path" in refused(RequirementMismatch, [asking(_TO)], ToolAnswer("c1", values={"to": "a", "path": "/etc"}))


@pytest.mark.parametrize("values", [{}, {"copies": 2}, {"to": None, "copies": 2}])
def test_a_missing_required_value_is_refused(values: dict[str, Any]) -> None:
    provided = ToolAnswer("c1", confirmed=True, values=values)
    assert "missing value for to" in refused(RequirementMismatch, [asking(_TO, _COPIES)], provided)


def test_an_optional_value_may_be_left_out_or_null() -> None:
    waits = [asking(_TO, _COPIES)]
    assert match(waits, ToolAnswer("c1", values={"to": "a@b"}))["r-c1"].values == {"to": "a@b"}
    assert match(waits, ToolAnswer("c1", values={"to": "a@b", "copies": None}))["r-c1"].values == {"to": "a@b"}
    assert match(waits, ToolAnswer("c1", values={"to": "a@b", "copies": "3"}))["r-c1"].values == {
        "to": "a@b",
        "copies": 3,
    }


def test_optional_fields_alone_can_be_passed_over_by_confirming() -> None:
    waits = [asking(_COPIES)]
    assert match(waits, ToolAnswer("c1", confirmed=True))["r-c1"].values == {}
    refused(RequirementsOpen, waits, ToolAnswer("c1"))


def test_what_the_model_chose_can_be_echoed_but_not_changed() -> None:
    waits = [asking(_TO, _SUBJECT)]
    assert match(waits, ToolAnswer("c1", values={"to": "a@b", "subject": "Hi"}))["r-c1"].values == {"to": "a@b"}
    assert "'subject'" in refused(RequirementMismatch, waits, ToolAnswer("c1", values={"to": "a@b", "subject": "Bye"}))


def test_echoing_only_what_the_model_chose_is_silence() -> None:
    refused(RequirementsOpen, [asking(_TO, _SUBJECT)], ToolAnswer("c1", values={"subject": "Hi", "to": None}))


def test_open_fields_may_differ_in_the_echoed_arguments_but_only_values_count() -> None:
    waits = [asking(_TO, tool_args={"subject": "Hi", "to": None})]
    provided = ToolAnswer("c1", tool_args={"subject": "Hi", "to": "forged"}, values={"to": "a@b"})
    assert match(waits, provided)["r-c1"].values == {"to": "a@b"}
    refused(RequirementsOpen, waits, ToolAnswer("c1", tool_args={"subject": "Hi", "to": "forged"}))


def test_values_and_edits_come_together() -> None:
    waits = [asking(_TO, tool_args={"subject": "Hi"}, editable=("subject",))]
    provided = ToolAnswer("c1", tool_args={"subject": "Bye"}, values={"to": "a@b"})
    assert match(waits, provided)["r-c1"].values == {"to": "a@b", "subject": "Bye"}


def test_a_form_that_was_filled_in_before_may_come_again_in_the_clients_own_spelling() -> None:
    done = Answer(Decision.ANSWERED, datetime(2026, 1, 1, tzinfo=UTC), values={"copies": 5, "to": "ada"})
    waits = [asking(_TO, _COPIES, answer=done, editable=("subject",)), asking(_TO, call="c2")]
    again = ToolAnswer("c1", tool_args={"path": "/tmp/a", "force": False, "subject": "Bye"}, values={"copies": "5.0"})  # noqa: S108
    assert set(match(waits, again, ToolAnswer("c2", values={"to": "bo"}))) == {"r-c2"}


def test_a_form_that_an_administrator_filled_in_cannot_be_filled_in_otherwise() -> None:
    done = Answer(Decision.CONFIRMED, datetime(2026, 1, 1, tzinfo=UTC), values={"to": "ada", "force": True})
    approved = asking(_TO, answer=done, editable=("force",), approval="required", approval_status="approved")
    assert match([approved], ToolAnswer("c1", values={"to": "ada"})) == {}
    assert match([approved], ToolAnswer("c1", tool_args={"path": "/tmp/a", "force": True})) == {}  # noqa: S108
    assert match([approved], ToolAnswer("c1", tool_args={"path": "/tmp/a", "force": False})) == {}  # noqa: S108
    assert "'to'" in refused(RequirementMismatch, [approved], ToolAnswer("c1", values={"to": "eve"}))
    other = ToolAnswer("c1", tool_args={"path": "/tmp/a", "force": "no"})  # noqa: S108
    assert "'force'" in refused(RequirementMismatch, [approved], other)


def test_null_fills_in_what_takes_null_and_nothing_else() -> None:
    maybe = InputField("n", "int", "", schema={"anyOf": [{"type": "integer"}, {"type": "null"}]})
    assert match([asking(_TO, maybe)], ToolAnswer("c1", values={"to": "ada", "n": None}))["r-c1"].values == {
        "to": "ada",
        "n": None,
    }
    # An untouched form is none that was filled in, and what was left out was not filled in with null.
    refused(RequirementsOpen, [asking(maybe)], ToolAnswer("c1", values={"n": None}))
    assert "n" in refused(RequirementMismatch, [asking(_TO, maybe)], ToolAnswer("c1", values={"to": "ada"}))


def test_what_may_be_changed_may_be_changed_in_the_form_too() -> None:
    subject = InputField("subject", "str", "", value="Hi", open=False, editable=True)
    waits = [asking(_TO, subject, tool_args={"subject": "Hi"}, editable=("subject",))]
    provided = ToolAnswer("c1", values={"to": "ada", "subject": "Bye"})
    assert match(waits, provided)["r-c1"].values == {"to": "ada", "subject": "Bye"}
    approved = [asking(_TO, subject, editable=("subject",), approval="required", approval_status="approved")]
    assert "'subject'" in refused(RequirementMismatch, approved, provided)
