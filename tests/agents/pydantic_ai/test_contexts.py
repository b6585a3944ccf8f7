"""Run contexts are copied by their dictionaries, with the result that Python's own way has."""

from __future__ import annotations

from copy import copy
from dataclasses import fields
from typing import Any

from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import RunContext
from pydantic_ai.usage import RunUsage

from unpause.agents.pydantic_ai.contexts import copied_with, copy_contexts_directly


class OfAnAuthor(RunContext[Any]):
    """A context with something of its own."""


def test_a_copy_of_a_context_has_all_that_the_context_has() -> None:
    copy_contexts_directly()
    assert hasattr(RunContext, "__copy__")
    for kind in (RunContext, OfAnAuthor):
        context = kind(deps={"a": 1}, model=TestModel(), usage=RunUsage(), run_step=3)
        vars(context)["of its author's"] = object()
        made = copy(context)
        assert type(made) is kind
        assert made is not context
        # The same objects, in the same order: what a step adds to a list of one is in the other.
        assert [*vars(made).items()] == [*vars(context).items()]
        assert all(vars(made)[name] is value for name, value in vars(context).items())


def test_a_context_with_other_values_leaves_the_first_as_it_was() -> None:
    context = RunContext(deps=None, model=TestModel(), usage=RunUsage())
    approved = copied_with(context, tool_call_approved=True)
    assert (context.tool_call_approved, approved.tool_call_approved) == (False, True)
    assert "tool_call_approved" in {field.name for field in fields(context)}
