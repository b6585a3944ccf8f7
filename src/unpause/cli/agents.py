"""``unpause agents``: checks agents before they are served."""

from __future__ import annotations

import json
import os
import sys
from contextlib import chdir, contextmanager, nullcontext, redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from unpause.agents.config import agents_config
from unpause.agents.hosting import check_config
from unpause.agents.process.launch import agent_environment
from unpause.agents.redaction import Redaction
from unpause.cli.exits import Exit
from unpause.cli.people.escapes import harmless
from unpause.errors import InvalidSetting
from unpause.settings_sources import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unpause.agents.findings import CheckedAgent, CheckedTool, CheckReport
    from unpause.settings import Settings

app = App(name="agents")


@app.command
def check(
    *files: Annotated[str, Parameter(metavar="AGENTS", help="Modules or files; by default UNPAUSE_AGENTS.")],
    model: Annotated[str | None, Parameter(metavar="TEXT", help="Model for all agents.")] = None,
    model_base_url: Annotated[
        str | None, Parameter(metavar="URL", help="URL of an OpenAI-compatible server that serves the model.")
    ] = None,
    default_agent: Annotated[str | None, Parameter(metavar="TEXT", help="Agent that `serve` gets as default.")] = None,
    agent_env: Annotated[
        str | None, Parameter(metavar="LIST", help="Further environment variables of agent processes.")
    ] = None,
    format: Annotated[Literal["text", "json"], Parameter(help="Text for people, or JSON.")] = "text",  # noqa: A002 - the option's name
) -> None:
    """Load agents as `unpause serve` does, list their tools and who decides, and find what is wrong with them.

    Exit code 0: nothing is wrong, or there are only warnings. 1: `unpause serve` would refuse these agents.
    """
    given = {
        "agents": files or None,
        "model": model,
        "model_base_url": model_base_url,
        "default_agent": default_agent,
        "agent_env": agent_env,
    }
    settings = read_settings(**{name: value for name, value in given.items() if value is not None})
    if not settings.agents:
        raise InvalidSetting("no agents to check: name a module or file")
    redaction = Redaction(os.environ)
    report = _check(settings)
    text = _as_json(report) if format == "json" else _as_text(report)
    sys.stdout.write(redaction.hide(text))
    if report.errors:
        sys.exit(Exit.FAILED)


def _check(settings: Settings) -> CheckReport:
    """Check the agents in the environment and the folder of an agent process; what they print goes to stderr."""
    config = agents_config(settings, demo=False)
    environment, withheld = dict(os.environ), tuple[str, ...]()
    if settings.agent_processes > 0:
        environment, withheld = agent_environment(settings)
    folder = chdir(settings.agent_folder) if settings.agent_folder is not None else nullcontext()
    with folder, _environment(environment), redirect_stdout(sys.stderr):
        return check_config(config.model_copy(update={"withheld": withheld}))


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have only these variables during the block."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# -------------------------------------------------------------------------------- output


def _as_json(report: CheckReport) -> str:
    counts = {"errors": len(report.errors), "warnings": len(report.warnings)}
    return json.dumps({**asdict(report), **counts}, indent=2) + "\n"


def _as_text(report: CheckReport) -> str:
    lines = [line for agent in report.agents if agent.id for line in (*_agent_lines(agent), "")]
    for finding in report.findings:
        lines += [harmless(str(finding)), *(f"    {harmless(frame)}" for frame in finding.trace)]
    named = [agent for agent in report.agents if agent.id]
    counts = (
        _count(len(named), "agent"),
        _count(sum(len(agent.tools) for agent in named), "tool"),
        _count(len(report.errors), "error"),
        _count(len(report.warnings), "warning"),
    )
    return "\n".join([*lines, ", ".join(counts), ""])


def _agent_lines(agent: CheckedAgent) -> Iterator[str]:
    facts = {"model": agent.model or "none", "deps": agent.deps or "none", "output": agent.output}
    yield harmless(f"agent {agent.id} ({agent.place or 'made in memory'})")
    yield f"  {', '.join(harmless(f'{name} {fact}') for name, fact in facts.items())}"
    width = max((len(tool.name) for tool in agent.tools), default=0)
    yield from (harmless(f"  {tool.name:{width}}  {_describe(tool)}  ({tool.place})") for tool in agent.tools)
    yield from (f"  and the tools of {harmless(name)}, which are only known in a run" for name in agent.in_runs)


def _describe(tool: CheckedTool) -> str:
    facts = [f"waits for {tool.waits_for}"]
    if tool.fields:
        facts.append(f"people fill in {', '.join(tool.fields)}")
    if tool.editable:
        facts.append(f"people may change {', '.join(tool.editable)}")
    if tool.decided_by:
        facts.append(f"decided by {tool.decided_by}")
    if tool.expires_in is not None:
        facts.append(f"expires in {tool.expires_in:g} s")
    if tool.on_expire:
        facts.append(f"then: {tool.on_expire}")
    if tool.idempotent:
        facts.append("idempotent")
    return "; ".join(facts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
