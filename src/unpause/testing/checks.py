"""``check``: what ``unpause agents check`` says, as a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.agents.findings import CheckReport, Severity
from unpause.agents.pydantic_ai.agent_checks import check_agents
from unpause.agents.pydantic_ai.loading import FoundAgent, load_agents

if TYPE_CHECKING:
    from pydantic_ai import Agent


def check(*agents: Agent[Any, Any] | str, models: bool = False) -> CheckReport:
    """Return what ``unpause agents check`` finds of these agents, or of those in modules and files of these names.

    Raises AssertionError with everything that would keep the agents from being served. Missing keys of models are left
    out, since tests need none, unless ``models`` is true. Raises InvalidSetting for a module that does not load.
    """
    __tracebackhide__ = True
    found = [
        each for agent in agents for each in (load_agents([agent]) if isinstance(agent, str) else [FoundAgent(agent)])
    ]
    report = check_agents(found)
    if not models:
        report = CheckReport(report.agents, tuple(each for each in report.findings if each.code != "model"))
    if report.errors:
        raise AssertionError("\n".join(str(each) for each in report.findings if each.severity is Severity.ERROR))
    return report
