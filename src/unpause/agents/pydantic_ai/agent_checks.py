"""Checks agents before they are served, and describes them: for the command, for tests and at every start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from unpause.agents.deps import find_deps
from unpause.agents.findings import (
    CheckedAgent,
    CheckedTool,
    CheckReport,
    Finding,
    Severity,
    sorted_findings,
)
from unpause.agents.policy import ToolPolicies
from unpause.agents.pydantic_ai.dependencies import describe_missing_deps
from unpause.agents.pydantic_ai.driver import model_of
from unpause.agents.pydantic_ai.source_places import place_of_function
from unpause.agents.pydantic_ai.tool_checks import ServerDeadlines, find_tool_problems, may_wait, waits
from unpause.agents.pydantic_ai.tools import find_unknown_toolsets, list_known_tools
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from pydantic_ai import Agent
    from pydantic_ai.models import Model

    from unpause.agents.findings import Place
    from unpause.agents.policy import ToolPolicy
    from unpause.agents.pydantic_ai.loading import FoundAgent
    from unpause.agents.pydantic_ai.tools import KnownTool

_NOTHING = "nothing"
_LONGEST_NAME = 255


def find_problems(
    agents: Sequence[FoundAgent], model: Model | None = None, deadlines: ServerDeadlines | None = None
) -> tuple[Finding, ...]:
    """Return what is wrong with the agents, by file and line. ``model``, if any, is used in place of their own."""
    seen: dict[str, FoundAgent] = {}
    findings: list[Finding] = []
    for found in agents:
        findings += _problems_of(found, model, deadlines or ServerDeadlines())
        name = found.agent.name
        if not name:
            continue
        if name in seen:
            first = f" (the other one: {place})" if (place := seen[name].place) is not None else ""
            findings.append(_error("duplicate-agent", found, f"two agents are named {name!r}: a name is an id{first}"))
        seen.setdefault(name, found)
    return sorted_findings(findings)


def check_agents(
    agents: Sequence[FoundAgent], model: Model | None = None, deadlines: ServerDeadlines | None = None
) -> CheckReport:
    """Return all that can be said about the agents without a run."""
    described = tuple(_described(found, model) for found in agents)
    return CheckReport(described, find_problems(agents, model, deadlines))


# -------------------------------------------------------------------------------- problems


def _problems_of(found: FoundAgent, model: Model | None, deadlines: ServerDeadlines) -> Iterator[Finding]:
    agent = found.agent
    if not agent.name:
        text = "an agent without a name is not served: Agent(..., name='…')"
        yield Finding(Severity.WARNING, "unnamed-agent", text, found.place)
        return
    if not _fits_a_url(agent.name):
        text = f"agent {agent.name[:_LONGEST_NAME]!r}: its name is a part of URLs, so it has 1 to {_LONGEST_NAME} "
        yield _error("agent-name", found, text + "printable characters, no /, and not only dots or spaces")
    try:
        model_of(agent, model)
    except InvalidSetting as error:
        yield _error("model", found, error.message)
    missing = describe_missing_deps(agent)
    if missing is not None:
        yield _error("deps", found, missing)
    has_deps = missing is not None or find_deps(agent) is not None
    for problem in find_tool_problems(agent, ToolPolicies(), deadlines, has_deps=has_deps):
        place = _place_of_tool(problem.tool) if problem.tool is not None else None
        yield Finding(
            Severity.ERROR if problem.is_error else Severity.WARNING,
            problem.code,
            f"agent {agent.name!r}, {problem.message}",
            place or found.place,
            agent.name,
            None if problem.tool is None else problem.tool.definition.name,
        )


def _fits_a_url(name: str) -> bool:
    """Whether clients can name the agent in a path, which they normalize before they send it."""
    return len(name) <= _LONGEST_NAME and name.isprintable() and "/" not in name and bool(name.strip(". "))


def _error(code: str, found: FoundAgent, message: str) -> Finding:
    return Finding(Severity.ERROR, code, message, found.place, found.agent.name)


def _place_of_tool(tool: KnownTool) -> Place | None:
    return None if tool.source is None else place_of_function(tool.source.function)


# -------------------------------------------------------------------------------- description


def _described(found: FoundAgent, model: Model | None) -> CheckedAgent:
    agent, place = found.agent, found.place
    return CheckedAgent(
        id=agent.name,
        place=place,
        model=_model_name(agent, model),
        deps=_deps_name(agent),
        output=_type_name(agent.output_type),
        tools=tuple(_described_tool(tool, place) for tool in list_known_tools(agent)),
        in_runs=tuple(find_unknown_toolsets(agent)),
    )


def _described_tool(tool: KnownTool, place_of_agent: Place | None) -> CheckedTool:
    definition = tool.definition
    place = _place_of_tool(tool) or place_of_agent
    try:
        rules = ToolPolicies().get(definition.name, definition.metadata)
    except ValueError:
        return CheckedTool(definition.name, place, "unreadable policy", None)
    waits_for = _waits_for(tool, rules)
    return CheckedTool(
        name=definition.name,
        place=place,
        waits_for=waits_for,
        decided_by=None if waits_for == _NOTHING else _deciders(rules),
        fields=rules.user_input,
        editable=rules.editable,
        expires_in=rules.expires_in,
        on_expire=rules.on_expire,
        idempotent=rules.idempotent,
    )


def _waits_for(tool: KnownTool, rules: ToolPolicy) -> str:
    if tool.definition.kind == "external":
        return "a result from outside"
    if rules.user_input:
        return "values of a form"
    if waits(tool, rules):
        return "approval"
    return "approval, if the call needs it" if may_wait(tool, rules) else _NOTHING


def _deciders(rules: ToolPolicy) -> str:
    who = "who may run the agent"
    if rules.approval == "required":
        who = "administrators (approvals:write)"
    if rules.approvers:
        names = " or ".join(rules.approvers)
        who = f"{names}, with approvals:write" if rules.approval == "required" else names
    if rules.quorum > 1:
        who = f"{rules.quorum} of: {who}"
    return f"{who}, but not who started the run" if rules.four_eyes else who


def _model_name(agent: Agent[Any, Any], model: Model | None) -> str | None:
    own = agent.model if model is None else model
    if own is None or isinstance(own, str):
        return own
    return f"{own.system}:{own.model_name}"


def _deps_name(agent: Agent[Any, Any]) -> str | None:
    rules = find_deps(agent)
    if rules is None:
        return None
    return getattr(rules.factory, "__qualname__", type(rules.factory).__name__)


def _type_name(output: Any) -> str:  # noqa: ANN401 - any output type
    if isinstance(output, list | tuple):
        return " | ".join(map(_type_name, output))
    return getattr(output, "__name__", None) or str(output)
