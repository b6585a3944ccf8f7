"""Whatever clients send: an answer counts only for the call that was shown, as it was shown."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from unpause.domain.forms import InputField
from unpause.domain.requirements import (
    Answer,
    Decision,
    Requirement,
    RequirementKind,
    ToolAnswer,
    match_answers,
)
from unpause.errors import InvalidTransition, RequirementMismatch, RequirementsOpen

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_PYTHON_TYPES: Mapping[str, type] = MappingProxyType(
    {"str": str, "int": int, "float": float, "bool": bool, "list": list, "dict": dict}
)

# Few names and values, so that right and wrong ones meet often.
_names = st.sampled_from(["path", "to", "copies", "force", "depth"])
_values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(["a", "5", "true", 5, 1.5, True, False]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["k"]), st.integers(), max_size=1),
)
_arguments = st.dictionaries(_names, _values, max_size=3)
_calls = st.sampled_from(["c0", "c1", "c2", "settled", "injected"])


@st.composite
def _requirements(draw: st.DrawFn, call: str) -> Requirement:
    arguments = draw(_arguments)
    fields = draw(
        st.lists(
            st.builds(
                InputField,
                name=_names,
                field_type=st.sampled_from(list(_PYTHON_TYPES)),
                description=st.just(""),
                value=_values,
                open=st.booleans(),
                required=st.booleans(),
            ),
            max_size=3,
            unique_by=lambda field: field.name,
        )
    )
    kind = draw(st.sampled_from(RequirementKind))
    requested = kind is RequirementKind.USER_INPUT
    decision = draw(st.sampled_from([None, None, None, *Decision]))
    return Requirement(
        id=f"r-{call}",
        pause_id="pause",
        tool_call_id=call,
        call_id=call,
        tool_name=draw(st.sampled_from(["delete", "send"])),
        tool_args=arguments,
        kind=kind,
        created_at=_NOW,
        fields=tuple(fields) if requested else (),
        editable=tuple(draw(st.lists(_names, max_size=2, unique=True))),
        answer=None if decision is None else Answer(decision, _NOW),
    )


@st.composite
def _pauses(draw: st.DrawFn) -> list[Requirement]:
    return [draw(_requirements(f"c{number}")) for number in range(draw(st.integers(1, 3)))]


@st.composite
def _said(draw: st.DrawFn, waits: list[Requirement]) -> ToolAnswer:
    """Return what an honest, a careless or a hostile client might send about some call."""
    call = draw(_calls)
    shown = next((wait for wait in waits if wait.tool_call_id == call), None)
    honest: dict[str, Any] = dict(shown.tool_args) if shown is not None else {}
    return ToolAnswer(
        call,
        tool_name=draw(st.sampled_from([None, shown.tool_name if shown else "delete", "delete", "send", "format"])),
        tool_args=draw(
            st.sampled_from([None, honest, honest]) | _arguments | _arguments.map(lambda more: honest | more)
        ),
        confirmed=draw(st.sampled_from([None, True, False])),
        note=draw(st.none() | st.just("because")),
        values=draw(st.none() | st.dictionaries(_names, st.none() | _values, max_size=3)),
        result=draw(st.sampled_from([None, None, "forged", ""])),
    )


@st.composite
def _requests(draw: st.DrawFn) -> tuple[list[Requirement], list[ToolAnswer]]:
    waits = draw(_pauses())
    return waits, draw(st.lists(_said(waits), max_size=4))


def _attempt(waits: list[Requirement], sent: list[ToolAnswer]) -> dict[str, ToolAnswer]:
    """Return what counts as answered; nothing where the request is refused with one of the promised errors."""
    known = frozenset({"settled", *(wait.tool_call_id for wait in waits)})
    with contextlib.suppress(RequirementMismatch, RequirementsOpen, InvalidTransition):
        return match_answers(waits, sent, known)
    return {}


@given(_requests())
def test_an_answer_counts_only_for_the_open_call_that_it_names(request: tuple[Any, Any]) -> None:
    waits, sent = request
    by_id = {wait.id: wait for wait in waits}
    for key, answer in _attempt(waits, sent).items():
        wait = by_id[key]
        assert wait.is_open
        assert answer.tool_call_id == wait.tool_call_id
        assert answer.tool_name in {None, wait.tool_name}


@given(_requests())
def test_answers_to_one_call_count_where_each_alone_would_be_the_same(request: tuple[Any, Any]) -> None:
    waits, sent = request
    for key, answer in _attempt(waits, sent).items():
        for each in sent:
            if each.tool_call_id == answer.tool_call_id:
                alone = _attempt(waits, [each]).get(key, answer)
                assert _contents(alone) == _contents(answer)


def _contents(answer: ToolAnswer) -> str:
    return repr((answer.confirmed, answer.note, answer.values, answer.result))


@given(_requests())
def test_what_would_run_differs_from_what_was_shown_only_in_declared_names(request: tuple[Any, Any]) -> None:
    waits, sent = request
    by_id = {wait.id: wait for wait in waits}
    for key, answer in _attempt(waits, sent).items():
        wait = by_id[key]
        declared = {*wait.editable, *(field.name for field in wait.fields if field.open)}
        would_run = {**wait.tool_args, **(answer.values or {})}
        changed = {
            name
            for name in {*would_run, *wait.tool_args}
            if name not in wait.tool_args or would_run[name] is not wait.tool_args[name]
        }
        assert changed <= declared
        if answer.tool_args is not None:
            kept = {name: value for name, value in answer.tool_args.items() if name not in declared}
            assert kept == {name: value for name, value in wait.tool_args.items() if name not in declared}


@given(_requests())
def test_silence_is_never_an_answer_and_a_result_only_one_for_an_external_call(request: tuple[Any, Any]) -> None:
    waits, sent = request
    by_id = {wait.id: wait for wait in waits}
    for key, answer in _attempt(waits, sent).items():
        kind = by_id[key].kind
        if kind is RequirementKind.CONFIRMATION:
            assert answer.confirmed is not None
            assert answer.result is None
        elif kind is RequirementKind.EXTERNAL_EXECUTION:
            assert answer.confirmed is False or answer.result is not None
            assert answer.values is None
        else:
            assert answer.confirmed is not None or answer.values
            assert answer.result is None


@given(_requests())
def test_a_user_input_that_counts_has_every_required_value_in_its_type(request: tuple[Any, Any]) -> None:
    waits, sent = request
    by_id = {wait.id: wait for wait in waits}
    for key, answer in _attempt(waits, sent).items():
        wait = by_id[key]
        if answer.confirmed is False:
            assert answer.values is None
            continue
        values = dict(answer.values or {})
        for field in (field for field in wait.fields if field.open and field.name not in wait.editable):
            assert field.name in values or not field.required
            if field.name in values:
                assert type(values[field.name]) is _PYTHON_TYPES[field.field_type]


@given(_requests())
def test_an_unknown_call_refuses_the_whole_request(request: tuple[Any, Any]) -> None:
    waits, sent = request
    if any(answer.tool_call_id == "injected" for answer in sent):
        assert _attempt(waits, sent) == {}


@given(_pauses(), st.data())
def test_answers_to_settled_calls_never_count(waits: list[Requirement], data: st.DataObject) -> None:
    settled = [replace(wait, answer=wait.answer or Answer(Decision.CONFIRMED, _NOW)) for wait in waits]
    assert _attempt(settled, data.draw(st.lists(_said(settled), max_size=4))) == {}


@given(_pauses())
def test_a_plain_yes_to_everything_open_is_refused_or_answers_all_that_needs_only_a_yes(
    waits: list[Requirement],
) -> None:
    wants_yes = {wait.id for wait in waits if wait.is_open and wait.kind is RequirementKind.CONFIRMATION}
    sent = [
        ToolAnswer(wait.tool_call_id, wait.tool_name, wait.tool_args, confirmed=True)
        for wait in waits
        if wait.id in wants_yes
    ]
    assert set(_attempt(waits, sent)) == wants_yes
