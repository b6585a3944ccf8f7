"""What is known of an agent's tools without a run, and policies that do not fit them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, ExternalToolset, FunctionToolset

from unpause.agents.policy import ToolPolicies, policy
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.pydantic_ai.tools import describe_tools, read_policies
from unpause.agents.redaction import Redaction
from unpause.clock import RandomIds
from unpause.errors import InvalidSetting


class Letter(BaseModel):
    """What a tool with a single model for its arguments takes."""

    to: str
    body: str = ""


def send(subject: str, to: str) -> str:
    """Send."""
    return subject + to


def post(letter: Letter) -> str:
    """Post."""
    return letter.to


def anything(**more: str) -> str:
    """Take whatever comes."""
    return str(more)


def agent_with(*toolsets: AbstractToolset[Any], tools: tuple[Tool[Any], ...] = ()) -> Agent[Any, Any]:
    return Agent(TestModel(), name="clerk", tools=tools, toolsets=toolsets)


WRONG = policy(user_input=["too"])


@pytest.mark.parametrize(
    "agent",
    [
        agent_with(tools=(Tool(send, name="x_mail", metadata=WRONG),)),
        agent_with(FunctionToolset([Tool(send, name="mail", metadata=WRONG)]).prefixed("x")),
        agent_with(CombinedToolset([FunctionToolset([Tool(send, name="mail", metadata=WRONG)])]).prefixed("x")),
        agent_with(FunctionToolset([Tool(send, metadata=WRONG)]).renamed({"x_mail": "send"})),
        agent_with(FunctionToolset([Tool(send, name="x_mail", metadata=WRONG)]).filtered(lambda _, __: True)),
        agent_with(FunctionToolset([Tool(send, name="x_mail")]).with_metadata(**WRONG)),
        agent_with(tools=(Tool(post, name="x_mail", metadata=WRONG),)),
        agent_with(
            ExternalToolset(
                [
                    ToolDefinition(
                        name="x_mail",
                        parameters_json_schema={"type": "object", "properties": {"to": {"type": "string"}}},
                        metadata=WRONG,
                    )
                ]
            )
        ),
    ],
)
def test_a_policy_that_names_no_parameter_of_its_tool_is_refused_wherever_the_tool_is(agent: Agent[Any, Any]) -> None:
    with pytest.raises(InvalidSetting, match="agent 'clerk', tool 'x_mail': user_input names no parameter of it: too "):
        read_policies(agent)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"aproval": "required"}, "tool 'send': unknown policy key: aproval"),
        ({"approval": "requierd"}, "tool 'send': approval must be"),
        ({"editable": "to"}, "tool 'send': editable must be a list"),
        ({"editable": ["ctx"]}, "editable names no parameter of it: ctx .it has subject, to"),
        ({"expires_in": float("inf")}, "tool 'send': expires_in must be"),
    ],
)
def test_a_policy_written_by_hand_is_checked_when_the_agents_are_loaded(rules: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSetting, match=words):
        read_policies(agent_with(tools=(Tool(send, metadata={"unpause": rules}),)))


def test_an_agent_whose_policies_do_not_fit_is_not_served() -> None:
    with pytest.raises(InvalidSetting, match="agent 'clerk', tool 'send': user_input names no parameter of it: too"):
        PydanticAIDriver(agent_with(tools=(Tool(send, metadata=WRONG),)), DriverOptions(RandomIds(), Redaction({})))


def test_policies_that_fit_are_taken() -> None:
    read_policies(
        agent_with(
            tools=(
                Tool(send, metadata=policy(user_input=["to"], editable=["subject"])),
                Tool(post, metadata=policy(user_input=["to"])),
                # It takes any name.
                Tool(anything, metadata=policy(user_input=["whatever"])),
            )
        )
    )


def test_a_tool_is_listed_under_the_name_that_the_model_calls_it_by() -> None:
    mail: FunctionToolset[Any] = FunctionToolset([Tool(send)])
    listed = describe_tools(agent_with(mail.prefixed("mail"), mail.renamed({"dispatch": "send"})), ToolPolicies())
    assert [tool.name for tool in listed] == ["mail_send", "dispatch"]
