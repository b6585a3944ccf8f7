"""Asks a model for the commands that prepare a repository, or for those that remain."""

from __future__ import annotations

import base64
from copy import copy
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, field_validator
from pydantic_ai import Agent
from pydantic_ai.messages import BinaryContent

from unpause.agents.containment import is_stop
from unpause.agents.pydantic_ai.failures import counted, failure
from unpause.agents.setup.command_text import MAX_COMMANDS
from unpause.agents.setup.progress import StepState, shown_output
from unpause.domain.events import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_ai.messages import UserContent
    from pydantic_ai.models import Model
    from pydantic_ai.usage import RunUsage, UsageLimits

    from unpause.agents.driver import Failed, Journal
    from unpause.agents.redaction import Redaction
    from unpause.agents.setup.progress import Progress
    from unpause.domain.runs import Image

_INSTRUCTIONS: Final = """\
You prepare a checkout of a repository for development: install its dependencies, and generate and build what its
tests need to run. Answer with an ordered list of shell commands.
Each command runs by itself with /bin/sh -c in the top folder of the checkout; `cd` and variables do not reach the next
command. Nobody can type input while it runs: choose options that need none. Only PATH, HOME and LANG are set.
A command that does not end by itself, such as a server, is stopped and counts as failed.
Use the tools that the repository's own files name. Propose no command that has succeeded already, and none that goes
beyond the request. An empty list means that nothing is left to do.
Ask a question only where a person has to decide; the commands of the same plan wait for the answer."""

_LONGEST_COMMAND: Final = 8_000


def _without_nul(command: str) -> str:
    if "\x00" in command:
        raise ValueError("a command cannot hold the character NUL")
    return command


Command = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=_LONGEST_COMMAND),
    AfterValidator(_without_nul),
]


class Plan(BaseModel):
    """The commands to run, in order, or a question that has to be answered first."""

    commands: list[Command] = Field(
        default_factory=list, max_length=MAX_COMMANDS, description="Shell commands, in the order in which to run them."
    )
    question: str | None = Field(
        default=None, description="What a person has to decide before any command can run; null for nothing."
    )

    @field_validator("question")
    @classmethod
    def _drop_blank(cls, question: str | None) -> str | None:
        return (question or "").replace("\x00", "").strip() or None


class Planner:
    """One agent without tools, whose only answer is a plan."""

    def __init__(self, limits: UsageLimits, redaction: Redaction) -> None:
        self._agent: Agent[None, Plan] = Agent(
            name="setup-commands", deps_type=type(None), output_type=Plan, instructions=_INSTRUCTIONS, retries=2
        )
        self._limits = limits
        self._redaction = redaction

    async def ask(
        self, content: Sequence[UserContent], model: Model, usage: RunUsage, journal: Journal
    ) -> Plan | Failed:
        """Return the model's plan, or the end of the run where the model fails; ``usage`` counts on."""
        named = {"model": model.model_name, "model_provider": model.system}
        before = copy(usage)
        await journal.emit(EventType.MODEL_REQUEST_STARTED, named)
        try:
            done = await self._agent.run(content, model=model, usage=usage, usage_limits=self._limits, infer_name=False)
        except BaseException as error:  # the boundary around a model: what it raises ends only this run
            if is_stop(error):
                raise
            return failure(error, usage, self._redaction)
        await journal.emit(EventType.MODEL_REQUEST_COMPLETED, {**named, **_tokens(before, usage)})
        return done.output


def _tokens(before: RunUsage, after: RunUsage) -> dict[str, int]:
    had, has = counted(before), counted(after)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {name: has.get(name, 0) - had.get(name, 0) for name in names}


def planning_prompt(
    request: str, checkout: str, progress: Progress, prompt: str, images: Sequence[Image]
) -> list[UserContent]:
    """Return what a model needs to plan the remaining commands; ``prompt`` is the user's latest."""
    parts = [f"Request:\n{request}", f"The checkout:\n{checkout}"]
    if progress.steps or progress.questions:
        parts.extend(_history(progress))
        parts.append(f"New prompt of the user:\n{prompt or '(empty)'}")
        parts.append("Answer with the commands that remain, in order. They replace those that have not run.")
    elif prompt and prompt != request:
        parts.append(f"Prompt of the user:\n{prompt}")
    pictures = (BinaryContent(base64.b64decode(image.data), media_type=image.media_type) for image in images)
    return ["\n\n".join(parts), *pictures]


def _history(progress: Progress) -> list[str]:
    parts: list[str] = []
    if progress.script:
        parts.append("Commands that succeeded, in order:\n" + _listed(progress.script))
    failed = [step for step in progress.ran if step.state is StepState.FAILED]
    parts.extend(f"A command that failed, {step.ending}: {step.command}\n{shown_output(step)}" for step in failed)
    parts.extend(
        f"A command that a crash cut off, and that the user declined to run again: {step.command}\nNote: {step.text}"
        for step in progress.skipped
    )
    if progress.waiting:
        parts.append("Commands planned next, which have not run:\n" + _listed(s.command for s in progress.waiting))
    parts.extend(
        f"Question to the user: {question.text}\nAnswer: {question.answer}"
        for question in progress.questions
        if question.answer is not None
    )
    return parts


def _listed(commands: Iterable[str]) -> str:
    return "\n".join(f"- {command}" for command in commands)
