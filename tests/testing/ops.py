"""The agent of these tests: a tool of each kind that waits, or not, for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic_ai import Agent, CallDeferred, RunContext, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from unpause import policy
from unpause.testing import script


@dataclass
class Machine:
    """What the tools of `ops` work with."""

    done: list[str] = field(default_factory=list)


SCHEMA = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
ELSEWHERE = ToolDefinition(name="shell", parameters_json_schema=SCHEMA)
ops: Agent[Machine, str] = Agent(name="ops", deps_type=Machine, toolsets=[ExternalToolset([ELSEWHERE])])


@ops.tool(requires_approval=True, metadata=policy(editable=["service"]))
def restart(ctx: RunContext[Machine], service: str) -> str:
    ctx.deps.done.append(f"restart {service}")
    return f"restarted {service}"


@ops.tool(metadata=policy(idempotent=True))
def look(ctx: RunContext[Machine], host: str = "here") -> str:
    ctx.deps.done.append(f"look {host}")
    return f"{host} is fine"


@ops.tool_plain(metadata=policy(user_input=["to", "copies"]))
def send(subject: str, to: str, copies: int = 1) -> str:
    return f"sent {subject} to {to} {copies} times"


@ops.tool_plain(requires_approval=True, metadata=policy(approval="required", four_eyes=True))
def pay(amount: int) -> str:
    return f"paid {amount}"


@ops.tool_plain(metadata=policy(approvers=["finance:approve", "olga"], quorum=2))
def lend(amount: int) -> str:
    return f"lent {amount}"


@ops.tool_plain(requires_approval=True, metadata=policy(expires_in=3600, on_expire="cancel"))
def soon(text: str) -> str:
    return text


@ops.tool_plain
def ask(question: str) -> str:
    raise CallDeferred(metadata={"reason": question}, kind="question")


RESTART = script("restart", service="nginx")
