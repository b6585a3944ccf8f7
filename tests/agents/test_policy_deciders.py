"""What an author can say about who decides a call, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.driver import RequirementRequest
from unpause.agents.policy import ToolPolicies, ToolPolicy, policy
from unpause.agents.pydantic_ai.deferred import SegmentPaused, WaitingCall, requests_of
from unpause.agents.pydantic_ai.tools import describe_tools
from unpause.domain.deciders import Deciders

SCHEMA = {"type": "object", "properties": {}}


def tool(kind: str, **rules: Any) -> ToolDefinition:  # noqa: ANN401 - any rule
    """Return a tool's definition with these rules."""
    return ToolDefinition(name=kind, parameters_json_schema=SCHEMA, metadata=policy(**rules))


def request_of(*, elsewhere: bool = False, **rules: Any) -> RequirementRequest:  # noqa: ANN401 - any rule
    """Return what a call of a tool with these rules waits for."""
    call = WaitingCall("call", "tool", {}, kind="external" if elsewhere else "approval")
    (found,) = requests_of(SegmentPaused((call,), {"tool": tool("tool", **rules)}), ToolPolicies())
    return found


def test_who_decides_is_read_back_as_it_was_given() -> None:
    metadata = policy(four_eyes=True, approvers=("olga", "finance:approve"), quorum=2)

    assert ToolPolicy.of(json.loads(json.dumps(metadata))) == ToolPolicy(
        four_eyes=True, approvers=("olga", "finance:approve"), quorum=2
    )


@pytest.mark.parametrize("rules", [{"four_eyes": True}, {"approvers": ["olga"]}, {"quorum": 2}])
def test_a_tool_whose_deciders_are_named_waits_for_them_whatever_else_it_says(rules: dict[str, Any]) -> None:
    assert ToolPolicy(**rules).waits
    assert not ToolPolicy().waits

    def act() -> None:
        """Act."""

    agent = Agent(TestModel(), tools=[Tool(act, metadata=policy(**rules))])
    (described,) = describe_tools(agent, ToolPolicies())
    assert described.requires_confirmation


def test_a_call_says_who_decides_it_only_where_its_author_did() -> None:
    assert request_of().deciders is None
    assert request_of(approval="required").deciders is None
    assert request_of(four_eyes=True).deciders == Deciders(four_eyes=True)
    assert request_of(approvers=["olga"], user_input=["x"]).deciders == Deciders(approvers=("olga",))
    assert request_of(quorum=3).deciders == Deciders(quorum=3)


def test_a_quorum_for_a_call_that_is_run_elsewhere_is_of_its_approval() -> None:
    several = request_of(elsewhere=True, quorum=2, four_eyes=True)
    assert (several.approval, several.deciders) == ("required", Deciders(four_eyes=True, quorum=2))
    assert request_of(elsewhere=True, four_eyes=True).approval is None
    assert request_of(quorum=2).approval is None

    agent = Agent(TestModel(), toolsets=[ExternalToolset([tool("one", four_eyes=True), tool("two", quorum=2)])])
    assert [described.approval for described in describe_tools(agent, ToolPolicies())] == [None, "required"]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"quorum": 0}, "quorum must be at least 1, not 0"),
        ({"quorum": -1}, "quorum must be at least 1"),
        ({"quorum": 2.0}, "quorum must be a whole number"),
        ({"quorum": True}, "quorum must be a whole number"),
        ({"quorum": None}, "quorum must be a whole number"),
        ({"four_eyes": 1}, "four_eyes must be True or False"),
        ({"approvers": "olga"}, "approvers must be a list of users and scopes, not 'olga'"),
        ({"approvers": [""]}, "approvers must be a list of users and scopes"),
        ({"approvers": [1]}, "approvers must be a list of users and scopes"),
        ({"approvers": ["olga", "olga"]}, "approvers names a user or scope twice: olga"),
        ({"approvers": ["olga"], "quorum": 2}, "a quorum of 2 needs more users than olga"),
        ({"approvers": ["olga", "user:olga"]}, "approvers names a user or scope twice: olga, user:olga"),
        ({"approvers": ["user:"]}, "'user:' names nobody"),
        ({"approvers": ["scope:"]}, "'scope:' names nobody"),
        ({"approvers": ["user:finance:approve"], "quorum": 2}, "a quorum of 2 needs more users"),
        ({"four_eyes": True, "editable": ["x"]}, "the second person alone would choose what runs"),
        ({"quorum": 2, "user_input": ["x"]}, "could fill in differently"),
        ({"quorum": 2, "editable": ["x"]}, "could fill in differently"),
        ({"quorum": 2, "on_expire": "approve"}, "cannot stand in for the people who have to decide"),
        ({"four_eyes": True, "on_expire": "approve"}, "cannot stand in for the people who have to decide"),
        ({"approvers": ["olga"], "on_expire": "approve"}, "cannot stand in for the people who have to decide"),
    ],
)
def test_what_cannot_be_meant_is_refused(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        policy(**rules)
    with pytest.raises(ValueError, match=words):
        ToolPolicy.of({"unpause": rules})


def test_a_scope_may_be_held_by_as_many_as_a_quorum_wants() -> None:
    assert ToolPolicy(approvers=("finance:approve",), quorum=3).quorum == 3
    assert ToolPolicy(approvers=("scope:approver",), quorum=3).quorum == 3
    assert ToolPolicy(approvers=("olga", "oskar"), quorum=2).quorum == 2
