"""Makes the drivers of one process from the settings of agents: in the server, or in an agent process."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING

import structlog
from pydantic_ai import Agent, InstrumentationSettings

from unpause.agents.demo.agent import build_demo_agent
from unpause.agents.demo.model import DemoModel
from unpause.agents.demo.workspace import prepare_workspace
from unpause.agents.findings import CheckReport, Finding, Severity
from unpause.agents.models import resolve_model, use_local_server
from unpause.agents.pydantic_ai.agent_checks import check_agents, find_problems
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.pydantic_ai.loading import FoundAgent, LoadingFailed, load_agents
from unpause.agents.pydantic_ai.tool_checks import ServerDeadlines
from unpause.agents.redaction import Redaction
from unpause.agents.served import Agents
from unpause.agents.setup.driver import SetupCommandsDriver
from unpause.agents.setup.segment import CommandSettings
from unpause.agents.setup.shell import find_command_user, find_programs
from unpause.clock import RandomIds
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from concurrent.futures import Executor
    from contextlib import AbstractContextManager

    from unpause.agents.config import AgentsConfig
    from unpause.agents.driver import AgentDriver
    from unpause.agents.objects import AnyAgent
    from unpause.clock import Clock

_log = structlog.get_logger(__name__)


def host_agents(config: AgentsConfig, redaction: Redaction, clock: Clock) -> Agents:
    """Return the agents of the settings, to be run in this process; raise InvalidSetting."""
    if config.model_base_url is not None:
        use_local_server(config.model_base_url)
    options = driver_options(config, redaction)
    if config.traces:
        trace_agents()
    if config.demo:
        prepare_workspace(config.workspace)
        agents = [build_demo_agent(config.workspace, options.model or DemoModel())]
    else:
        found = load_agents(config.agents)
        refuse_problems(found, config, options)
        agents = [each.agent for each in found if each.agent.name]
    return agents_of([PydanticAIDriver(agent, options) for agent in agents], config, options, clock)


def host_objects(agents: Sequence[AnyAgent], config: AgentsConfig, redaction: Redaction, clock: Clock) -> Agents:
    """Return these agents, to be run in this process; raise InvalidSetting for those that cannot be served."""
    options = driver_options(config, redaction)
    if not all(isinstance(agent, Agent) and agent.name for agent in agents):
        raise InvalidSetting("agents: each has to be a pydantic_ai.Agent with a name, which is its id")
    refuse_problems([FoundAgent(agent) for agent in agents], config, options)
    return agents_of([PydanticAIDriver(agent, options) for agent in agents], config, options, clock)


def refuse_problems(agents: Sequence[FoundAgent], config: AgentsConfig, options: DriverOptions) -> None:
    """Log what is probably wrong with the agents; raise InvalidSetting with all that is impossible."""
    report = CheckReport((), find_problems(agents, options.model, deadlines_of(config)))
    report.refuse_errors()
    for finding in report.warnings:
        _log.warning("agent check", finding=finding.message, code=finding.code, place=str(finding.place or ""))


def check_config(config: AgentsConfig) -> CheckReport:
    """Return all that can be said about the agents of the settings without a run; modules that fail are findings."""
    found: dict[int, FoundAgent] = {}
    findings: list[Finding] = []
    if config.model_base_url is not None:
        use_local_server(config.model_base_url)
    for name in config.agents:
        try:
            found.update({id(each.agent): each for each in load_agents([name])})
        except LoadingFailed as error:
            message = config.explain(error.problem)
            findings.append(Finding(Severity.ERROR, "loading", message, error.place, trace=error.trace))
    model = None
    try:
        model = driver_options(config, Redaction(os.environ)).model
    except InvalidSetting as error:
        findings.append(Finding(Severity.ERROR, "model", config.explain(error.message)))
    report = check_agents(tuple(found.values()), model, deadlines_of(config))
    names = [agent.id for agent in report.agents if agent.id]
    if config.default_agent is not None and config.default_agent not in names and not findings:
        near = get_close_matches(config.default_agent, names, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
        message = f"default_agent {config.default_agent!r} is none of these agents: {hint}"
        findings.append(Finding(Severity.ERROR, "default-agent", message))
    own = [replace(finding, message=config.explain(finding.message)) for finding in report.findings]
    return CheckReport(report.agents, (*findings, *own))


def deadlines_of(config: AgentsConfig) -> ServerDeadlines:
    """Return what the settings end after a time."""
    return ServerDeadlines(pauses=config.pauses_expire, approvals=config.approvals_expire)


def trace_agents() -> None:
    """Have Pydantic AI open spans for models and tools, without what is said in them."""
    Agent.instrument_all(InstrumentationSettings(include_content=False, include_binary_content=False))


def agents_of(drivers: Sequence[AgentDriver], config: AgentsConfig, options: DriverOptions, clock: Clock) -> Agents:
    """Return these drivers with the one that prepares repositories, and with what they open once for the process."""

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async with open_lifespans(drivers) if config.executes else nullcontext():
            yield

    return Agents(drivers, setup_commands_driver(config, options, drivers, clock), running)


def using_threads(executor: Executor) -> AbstractContextManager[None]:
    """Have synchronous tools run in these threads during the block."""
    return Agent.using_thread_executor(executor)


def driver_options(config: AgentsConfig, redaction: Redaction) -> DriverOptions:
    """Return the settings that all agents share; raise InvalidSetting for a model that is unavailable."""
    return DriverOptions(
        ids=RandomIds(),
        redaction=redaction,
        model=resolve_model(config.model, config.model_base_url) if config.model else None,
        request_limit=config.request_limit,
        max_result_bytes=config.max_result_bytes,
        total_tokens_limit=config.total_tokens_limit,
        models={name: resolve_model(name, config.model_base_url) for name in config.models},
    )


@asynccontextmanager
async def open_lifespans(drivers: Sequence[AgentDriver]) -> AsyncIterator[None]:
    """Hold open during the block what the agents open once for the process; raise InvalidSetting where that fails."""
    found = {id(driver.lifespans): driver.lifespans for driver in drivers if isinstance(driver, PydanticAIDriver)}
    async with AsyncExitStack() as stack:
        for lifespans in found.values():
            await stack.enter_async_context(lifespans.opened())
        yield


def setup_commands_driver(
    config: AgentsConfig, options: DriverOptions, drivers: Sequence[AgentDriver], clock: Clock
) -> SetupCommandsDriver | None:
    """Return the driver that prepares repositories, with the settings' model or the default agent's.

    None without a folder of checkouts, or without a model that can plan: the demo's own knows only the demo's tools.
    """
    if config.workspace_root is None:
        return None
    default = next((driver for driver in drivers if config.default_agent in {None, driver.agent_id}), None)
    model = options.model or (default.model if isinstance(default, PydanticAIDriver) else None)
    if model is None or isinstance(model, DemoModel):
        return None
    commands = CommandSettings(
        config.workspace_root,
        config.command_timeout_seconds,
        config.command_output_bytes,
        find_programs(os.environ),
        find_command_user(config.command_user),
    )
    return SetupCommandsDriver(model, options, commands, clock)
