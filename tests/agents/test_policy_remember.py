"""What an author can allow to be remembered, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic_ai import Agent, ToolDefinition
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.driver import RequirementRequest
from unpause.agents.policy import ToolPolicies, ToolPolicy, policy
from unpause.agents.pydantic_ai.deferred import SegmentPaused, WaitingCall, requests_of
from unpause.agents.pydantic_ai.tools import read_policies
from unpause.domain.grants import GrantMatch, GrantScope, Remember, StrictRule, fingerprint_of
from unpause.errors import InvalidSetting

SCHEMA = {"type": "object", "properties": {}}
ALLOWED = policy(remember="tool")


def request_of(kind: str = "approval", **waiting: Any) -> RequirementRequest:  # noqa: ANN401 - what waits
    """Return what a call waits for whose tool allows everything to be remembered."""
    tool = ToolDefinition(name="tool", parameters_json_schema=SCHEMA, metadata=ALLOWED)
    call = WaitingCall("call", "tool", {}, kind=kind, **waiting)
    (found,) = requests_of(SegmentPaused((call,), {"tool": tool}), ToolPolicies())
    return found


def test_what_may_be_remembered_is_read_back_as_it_was_given() -> None:
    rules = {"match": "tool", "scopes": ["run"], "max_seconds": 60, "overrides": ["quorum"]}
    kept = ToolPolicy.of(json.loads(json.dumps(policy(quorum=2, remember=rules)))).remember
    assert kept == Remember(GrantMatch.TOOL, (GrantScope.RUN,), 60.0, (StrictRule.QUORUM,))
    assert ToolPolicy.of(policy(remember="arguments")).remember == Remember()
    assert ToolPolicy.of(policy()).remember is None


@pytest.mark.parametrize(
    "remember",
    [True, "always", 5, {"scope": ["run"]}, {"scopes": []}, {"scopes": ["week"]}, {"max_seconds": 0}, {"match": None}],
)
def test_what_cannot_be_read_is_refused_and_a_misspelled_limit_allows_nothing(remember: Any) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match="remember must be"):
        policy(remember=remember)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        ({"quorum": 2}, "stand in for quorum"),
        ({"four_eyes": True}, "stand in for four_eyes"),
        ({"approval": "required"}, "stand in for approval"),
        ({"approval": "required", "quorum": 2}, "stand in for approval, quorum"),
        ({"user_input": ["x"]}, "excludes user_input"),
    ],
)
def test_a_strict_rule_excludes_it_unless_the_author_overrides_just_that(rules: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        policy(**rules, remember="tool")
    if "user_input" not in rules:
        names = [name for name in ("approval", "four_eyes", "quorum") if name in rules]
        policy(**rules, remember={"overrides": names})
        with pytest.raises(ValueError, match="stand in for"):
            policy(**rules, remember={"overrides": names[1:]})
    with pytest.raises(ValueError, match="does not have: quorum"):
        policy(remember={"overrides": ["quorum"]})


def test_a_tool_that_is_run_elsewhere_cannot_allow_it() -> None:
    tool = ToolDefinition(name="job", parameters_json_schema=SCHEMA, metadata=ALLOWED)
    agent = Agent(TestModel(), name="a", toolsets=[ExternalToolset([tool], id="e")])
    with pytest.raises(InvalidSetting, match="run elsewhere"):
        read_policies(agent)


def test_only_a_plain_approval_can_be_remembered() -> None:
    assert request_of().remember == Remember(GrantMatch.TOOL)
    # What a nested agent wants to do is in the metadata, and may be something else the next time.
    assert request_of(metadata={"reason": "the cleaner deletes a.txt"}).remember is None
    assert request_of(message="it differs from what was approved").remember is None
    assert RequirementRequest.again("call", None, "filled in since").remember is None
    assert request_of("external").remember is None
    assert request_of("question").remember is None


def test_arguments_are_the_same_whatever_the_order_of_their_keys_and_numbers_by_their_kind() -> None:
    assert fingerprint_of({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert len({fingerprint_of({"a": value}) for value in (1, 1.0, True, "1", None, [1])}) == 6
