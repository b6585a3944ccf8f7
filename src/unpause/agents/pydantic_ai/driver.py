"""Serves Pydantic AI agents: what an agent is and can do; ``segment`` runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_ai.external_events import external_event_scope
from pydantic_ai.usage import RunUsage

from unpause.agents.idempotency import current_run
from unpause.agents.model_choice import ModelChoice
from unpause.agents.models import resolve_model
from unpause.agents.pydantic_ai.argument_checker import ArgumentChecker
from unpause.agents.pydantic_ai.capabilities import is_plain
from unpause.agents.pydantic_ai.contexts import copy_contexts_directly
from unpause.agents.pydantic_ai.dependencies import Lifespans, SegmentDeps
from unpause.agents.pydantic_ai.failures import Meter, RunLimits
from unpause.agents.pydantic_ai.segment import AgentSetup, SegmentLoop
from unpause.agents.pydantic_ai.tools import describe_tools, read_policies
from unpause.errors import InvalidSetting
from unpause.settings import DEFAULT_RESULT_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_ai import Agent
    from pydantic_ai.models import Model

    from unpause.agents.deps import AgentDeps
    from unpause.agents.driver import ArgumentCheck, Journal, ModelName, Segment, SegmentEnd, ToolDescription
    from unpause.agents.redaction import Redaction
    from unpause.clock import Ids

_USAGE = TypeAdapter(RunUsage)


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """What all agents of a server have in common. ``model`` None leaves every agent its own.

    ``models`` are those that a client may choose for a run, by the names that clients use. ``deps`` None leaves every
    agent its own.
    """

    ids: Ids
    redaction: Redaction
    model: Model | None = None
    models: Mapping[str, Model] = field(default_factory=dict)
    request_limit: int | None = None
    total_tokens_limit: int | None = None
    max_result_bytes: int = DEFAULT_RESULT_BYTES
    lifespans: Lifespans = field(default_factory=Lifespans)
    deps: AgentDeps | None = None


class PydanticAIDriver:
    """One ``pydantic_ai.Agent``, served under its name. Implements ``agents.driver.AgentDriver``."""

    def __init__(self, agent: Agent[Any, Any], options: DriverOptions) -> None:
        if not agent.name:
            raise InvalidSetting("an agent needs a name to be served: Agent(..., name='…')")
        copy_contexts_directly()
        self._policies = read_policies(agent)
        self._models = ModelChoice(model_of(agent, options.model), options.models)
        self._agent = agent
        self._checker = ArgumentChecker(agent)
        self._setup = AgentSetup(
            agent=agent,
            models=self._models,
            deps=SegmentDeps(agent, options.lifespans, options.deps),
            policies=self._policies,
            limits=RunLimits(request_limit=options.request_limit, total_tokens_limit=options.total_tokens_limit),
            redaction=options.redaction,
            ids=options.ids,
            max_result_bytes=options.max_result_bytes,
            is_plain=is_plain(agent),
        )
        self.lifespans = options.lifespans
        self.agent_id = agent.name
        self.agent_name = agent.name
        self.model_name = self.model.model_name
        self.model_provider = self.model.system

    @property
    def model(self) -> Model:
        """The model that runs the agent where no client chose another."""
        return self._models.own

    def list_tools(self) -> list[ToolDescription]:
        """Return the agent's tools, as far as its toolsets list them without a run."""
        return describe_tools(self._agent, self._policies)

    def check_arguments(
        self, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Have the tool's schema check those of the arguments that a human chose; None where only a run can do that."""
        return self._checker.check(tool_name, arguments, chosen)

    def list_models(self) -> dict[str, ModelName]:
        """Return the models that a client may choose, by the names that clients use, the agent's own first."""
        return self._models.list_names()

    def describe_model(self, choice: str | None) -> ModelName:
        """Return the model that a client's choice means, None being the agent's own; raise ModelNotAllowed.

        The agent's own may be chosen by its name, too: ``PROVIDER:NAME``.
        """
        return self._models.describe(choice)

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Go on with the run until it waits, ends or fails; failures of model and agent are returned, not raised."""
        meter = Meter(_USAGE.validate_python(segment.run.usage or {}))
        journal.measure(meter.counts)
        loop = SegmentLoop(self._setup, segment, journal, meter)
        with current_run(segment.run.run_id), external_event_scope(loop.events):
            return await loop.run()


def model_of(agent: Agent[Any, Any], model: Model | None) -> Model:
    """Return the model that runs the agent: ``model``, or else its own; raise InvalidSetting where it has none."""
    if model is not None:
        return model
    if agent.model is None:
        raise InvalidSetting(f"agent {agent.name!r} has no model: give it one, or start with --model")
    return resolve_model(agent.model) if isinstance(agent.model, str) else agent.model
