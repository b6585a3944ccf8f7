"""What an author can say about a tool, and what is refused."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest
from pydantic_ai import Agent, Tool
from pydantic_ai.models.test import TestModel

from unpause.agents.policy import ToolPolicies, ToolPolicy, policy

if TYPE_CHECKING:
    from collections.abc import Mapping


def test_a_tool_without_metadata_has_the_default_policy() -> None:
    assert ToolPolicy.of(None) == ToolPolicy.of({}) == ToolPolicy.of({"mine": 1}) == ToolPolicy()


def test_every_rule_is_read_back_as_it_was_given() -> None:
    metadata = policy(approval="audit", user_input=["recipient", "subject"], editable=("body",), idempotent=True)

    assert ToolPolicy.of(metadata) == ToolPolicy(
        approval="audit", user_input=("recipient", "subject"), editable=("body",), idempotent=True
    )


def test_a_policy_without_rules_is_the_default_one() -> None:
    assert ToolPolicy.of(policy()) == ToolPolicy()


def test_a_policy_merges_with_the_authors_own_metadata() -> None:
    metadata = policy(idempotent=True) | {"mine": 1}

    assert metadata["mine"] == 1
    assert set(metadata) == {"unpause", "mine"}
    assert ToolPolicy.of(metadata).idempotent


def test_a_policy_survives_json() -> None:
    metadata = policy(approval="required", user_input=["to"], editable=["body"])

    assert ToolPolicy.of(json.loads(json.dumps(metadata))) == ToolPolicy.of(metadata)


async def test_a_policy_reaches_the_tool_definition_that_pydantic_ai_makes() -> None:
    model = TestModel(call_tools=[])

    async def ping() -> str:
        return "pong"

    agent = Agent(model, tools=[Tool(ping, metadata=policy(idempotent=True) | {"mine": 1})])
    await agent.run("hi")

    assert model.last_model_request_parameters is not None
    (tool,) = model.last_model_request_parameters.function_tools
    assert ToolPolicy.of(tool.metadata) == ToolPolicy(idempotent=True)


def test_a_parameter_cannot_be_both_filled_in_and_editable() -> None:
    with pytest.raises(ValueError, match="not both: subject"):
        policy(user_input=["to", "subject"], editable=["subject"])


@pytest.mark.parametrize("field", ["user_input", "editable"])
def test_a_parameter_cannot_be_named_twice(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} names a parameter twice: to"):
        ToolPolicy.of({"unpause": {field: ["to", "body", "to"]}})


def test_a_policy_made_directly_obeys_the_same_rules() -> None:
    with pytest.raises(ValueError, match="twice"):
        ToolPolicy(editable=("to", "to"))


def test_a_bare_string_is_not_taken_for_a_list_of_names() -> None:
    with pytest.raises(ValueError, match="user_input must be a list of parameter names, not 'recipient'"):
        policy(user_input="recipient")


def test_an_unknown_key_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(ValueError, match=r"unknown policy key: aproval \(known: approval, user_input"):
        ToolPolicy.of({"unpause": {"aproval": "required"}})


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (True, "unpause must be a mapping"),
        (None, "unpause must be a mapping"),
        ({"approval": "always"}, "approval must be"),
        ({"approval": ["required"]}, "approval must be"),
        ({"approval": True}, "approval must be"),
        ({"idempotent": 1}, "idempotent must be True or False"),
        ({"idempotent": None}, "idempotent must be True or False"),
        ({"user_input": None}, "user_input must be a list of parameter names"),
        ({"user_input": [1]}, "user_input must be a list of parameter names"),
        ({"editable": [""]}, "editable must be a list of parameter names"),
        ({"editable": {"to": True}}, "editable must be a list of parameter names"),
        *(
            ({"expires_in": seconds}, "expires_in must be a positive number of seconds, a hundred years at most")
            for seconds in (0, -1, math.nan, math.inf, -math.inf, 1e12, 10**400)
        ),
        ({"expires_in": True}, "expires_in must be a positive number of seconds"),
        ({"expires_in": "60"}, "expires_in must be a positive number of seconds"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(rules: object, words: str) -> None:
    metadata: Mapping[str, object] = {"unpause": rules}

    with pytest.raises(ValueError, match=words):
        ToolPolicy.of(metadata)


def test_a_policy_is_parsed_once_for_the_same_rules_and_again_for_others() -> None:
    policies = ToolPolicies()
    rules = policy(idempotent=True)
    first = policies.get("send", rules)

    assert policies.get("send", {**rules, "mine": 1}) is first
    assert policies.get("send", policy(approval="audit")) == ToolPolicy(approval="audit")
    assert policies.get("other", None) == ToolPolicy()
