"""An agent for the console: its model makes the calls that a message names, as JSON: ``[["restart", {…}], …]``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_ai import Agent, CallDeferred, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, RetryPromptPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.policy import policy


def restart(service: Literal["nginx", "postgres", "redis"], reason: str) -> str:
    """Restart a service. Connections that are open are cut.

    Args:
        service: The service to restart.
        reason: Why; it goes into the log.
    """
    return f"restarted {service}: {reason}"


def delete_file(path: str) -> str:
    """Delete a file <img src=x onerror="document.title='xss'"> for good."""
    return f"deleted {path}"


def refund(  # noqa: PLR0913, PLR0917 - a form with a field of each kind
    customer: str,
    amount: Annotated[float, Field(gt=0, le=500)],
    method: Literal["card", "bank transfer", "voucher"],
    on: date,
    notify: bool,  # noqa: FBT001 - as a model sends it
    comment: str | None = None,
    booking: dict[str, int] | None = None,
) -> str:
    """Refund a customer.

    Args:
        customer: Whom.
        amount: How much, in euros.
        method: How.
        on: The day of the refund.
        notify: Whether the customer gets a mail.
        comment: Anything to add.
        booking: Accounts and amounts.
    """
    return f"refunded {customer} {amount} by {method} on {on}, {notify}, {comment}, {booking}"


def transfer(amount: int) -> str:
    """Transfer money between accounts: two people have to agree."""
    return f"transferred {amount}"


def deploy(env: str) -> str:
    """Deploy the newest build."""
    return f"deployed {env}"


def publish(path: str) -> str:
    """Publish a page."""
    return f"published {path}"


def ask(question: str) -> str:
    """Ask the user."""
    raise CallDeferred(metadata={"question": question}, kind="question")


SHELL = ToolDefinition(
    name="run_shell",
    description="Run a command on the user's own machine.",
    parameters_json_schema={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
)


async def _follow(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    prompts = [part.content for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    text = next((text for text in reversed(prompts) if isinstance(text, str) and text.startswith("[")), "[]")
    if any(isinstance(part, ToolReturnPart | RetryPromptPart) for part in messages[-1].parts):
        yield "Done."
        return
    calls: list[tuple[str, dict[str, Any]]] = json.loads(text)
    if not calls:
        yield "Nothing to do."
        return
    yield "I have to ask first."
    for number, (name, arguments) in enumerate(calls, 1):
        yield {number: DeltaToolCall(name, json.dumps(arguments))}


ops = Agent(
    FunctionModel(stream_function=_follow, model_name="follows"),
    name="ops",
    tools=[
        Tool(restart, requires_approval=True, metadata=policy(editable=["service", "reason"])),
        Tool(delete_file, requires_approval=True),
        Tool(refund, metadata=policy(user_input=["amount", "method", "on", "notify", "comment", "booking"])),
        Tool(transfer, metadata=policy(quorum=2)),
        Tool(deploy, metadata=policy(approval="required")),
        Tool(publish, requires_approval=True, metadata=policy(remember="tool")),
        ask,
    ],
    toolsets=[ExternalToolset([SHELL], id="elsewhere")],
)
