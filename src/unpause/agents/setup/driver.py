"""Runs that prepare a repository: a model proposes shell commands, and they are run one by one in its checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter
from pydantic_ai.usage import RunUsage

from unpause.agents.driver import Failed, ToolDescription
from unpause.agents.model_choice import ModelChoice
from unpause.agents.pydantic_ai.failures import RunLimits, counted
from unpause.agents.setup.planner import Planner
from unpause.agents.setup.progress import ASK_HUMAN, FIX_COMMAND, RUN_COMMAND
from unpause.agents.setup.segment import SegmentTools, SetupSegment
from unpause.domain.runs import EndReason
from unpause.errors import ModelNotAllowed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_ai.models import Model

    from unpause.agents.driver import ArgumentCheck, Journal, ModelName, Segment, SegmentEnd
    from unpause.agents.pydantic_ai.driver import DriverOptions
    from unpause.agents.setup.segment import CommandSettings
    from unpause.clock import Clock

AGENT_ID: Final = "setup-commands"

_USAGE = TypeAdapter(RunUsage)


class SetupCommandsDriver:
    """The agent of all runs whose source is SETUP_COMMANDS. Implements ``agents.driver.AgentDriver``.

    The plan is kept as the run's calls before anything of it runs, so the same commands continue after a crash. A
    command that fails pauses the run with a question; an answer with commands corrects it, any other goes to the model.
    What succeeded is never run again. Declining the question ends the run as ERROR, with a report of what was done:
    COMPLETED is only a preparation that succeeded.
    """

    agent_id = AGENT_ID
    agent_name = AGENT_ID

    def __init__(self, model: Model, options: DriverOptions, commands: CommandSettings, clock: Clock) -> None:
        self._models = ModelChoice(model, options.models)
        self._ids = options.ids
        self._workshop = commands
        self._clock = clock
        limits = RunLimits(request_limit=options.request_limit, total_tokens_limit=options.total_tokens_limit)
        self._planner = Planner(limits, options.redaction)
        self.model_name = model.model_name
        self.model_provider = model.system

    def list_tools(self) -> list[ToolDescription]:
        """Return the tools of the run's calls; only this driver calls them."""
        return [
            ToolDescription(RUN_COMMAND, "Run a shell command in the checkout.", _parameters("command")),
            ToolDescription(
                FIX_COMMAND,
                "Ask a person how to go on after a command failed.",
                _parameters("command", "exit_code", "output", "number", "of"),
                external_execution=True,
            ),
            ToolDescription(ASK_HUMAN, "Ask a person to decide.", _parameters("question"), external_execution=True),
        ]

    def check_arguments(
        self,
        tool_name: str,  # noqa: ARG002 - part of the protocol
        arguments: Mapping[str, Any],  # noqa: ARG002 - the protocol's
        chosen: Collection[str],  # noqa: ARG002 - the protocol's
    ) -> ArgumentCheck | None:
        """Return None: the arguments of a command are not edited."""
        return None

    def list_models(self) -> dict[str, ModelName]:
        """Return the models that a client may choose, by the names that clients use, the agent's own first."""
        return self._models.list_names()

    def describe_model(self, choice: str | None) -> ModelName:
        """Return the model that a client's choice means, None being the agent's own; raise ModelNotAllowed."""
        return self._models.describe(choice)

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Continue the run until it waits, ends or fails; failures of the model are returned, not raised."""
        usage = _USAGE.validate_python(segment.run.usage or {})
        try:
            model = self._models.get(segment.run.model_choice)
        except ModelNotAllowed as error:
            return Failed(EndReason.AGENT_ERROR, error.message, counted(usage))
        tools = SegmentTools(self._workshop, self._planner, model, usage, self._clock, self._ids)
        return await SetupSegment(segment, journal, tools).run()


_TYPES: Final = {"exit_code": "integer", "number": "integer", "of": "integer"}


def _parameters(*names: str) -> dict[str, Any]:
    properties = {name: {"type": _TYPES.get(name, "string")} for name in names}
    return {"type": "object", "properties": properties, "required": list(names)}
