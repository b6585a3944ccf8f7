"""One segment of a run that prepares a repository: plan, run commands one by one, ask when one fails."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelRequest, ModelResponse, TextPart, UserPromptPart

from unpause.agents.driver import Completed, Failed, NewMessage, Paused, ProposedCall, RequirementRequest
from unpause.agents.pydantic_ai.failures import counted
from unpause.agents.setup.checkout import describe_checkout, find_checkout
from unpause.agents.setup.command_text import find_commands
from unpause.agents.setup.planner import planning_prompt
from unpause.agents.setup.progress import ASK_HUMAN, REPLACED, RUN_COMMAND, Progress, StepState, question_about
from unpause.agents.setup.report import completed_text, planned_text, stopped_text
from unpause.agents.setup.shell import CommandRules, clean_environment, run_command
from unpause.domain.events import EventType
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import EndReason, TranscriptEntry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models import Model
    from pydantic_ai.usage import RunUsage

    from unpause.agents.driver import Journal, Segment, SegmentEnd
    from unpause.agents.setup.planner import Planner
    from unpause.agents.setup.progress import Question, Step
    from unpause.agents.setup.shell import CommandUser
    from unpause.clock import Clock, Ids

# Beside the checkouts, and no number: a folder that no repository's id can name.
_HOMES = ".homes"


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """What commands are run with: the folder of all checkouts, limits, where programs are found, and as which user."""

    root: Path
    timeout_seconds: float
    output_bytes: int
    search_path: str
    user: CommandUser | None = None


@dataclass(frozen=True, slots=True)
class SegmentTools:
    """What a segment works with; ``usage`` counts on from the segments before it."""

    commands: CommandSettings
    planner: Planner
    model: Model
    usage: RunUsage
    clock: Clock
    ids: Ids


class SetupSegment:
    """Continues one run from the state of its journal."""

    def __init__(self, segment: Segment, journal: Journal, tools: SegmentTools) -> None:
        self._segment = segment
        self._journal = journal
        self._tools = tools
        self._progress = Progress(segment.calls)

    async def run(self) -> SegmentEnd:
        """Work until all is done, something needs a human, or a pause is requested."""
        folder = await asyncio.to_thread(self._find_folder)
        if folder is None:
            return Failed(EndReason.AGENT_ERROR, "The checkout of the repository is not there", self._usage())
        question = self._progress.newest_question
        if question is not None and question.declined:
            # A preparation that is not finished must not look like one that is.
            return Failed(EndReason.AGENT_ERROR, stopped_text(self._progress, question.answer or ""), self._usage())
        if question is not None and question.answer is None:
            return self._wait_for(question)
        prompt = self._prompt(question)
        if prompt is not None and (end := await self._follow_prompt(prompt, folder)) is not None:
            return end
        return await self._work(folder)

    def _find_folder(self) -> Path | None:
        repo_id = self._segment.run.repo_id
        return None if repo_id is None else find_checkout(self._tools.commands.root, repo_id)

    def _prompt(self, question: Question | None) -> str | None:
        """Return the user's prompts that no plan has followed; None where there are none."""
        prompts = [] if question is None else [question.answer or ""]
        # Codegen's resume sends the answer to a question once more as the user's prompt.
        prompts.extend(added.prompt for added in self._segment.inputs if added.prompt not in prompts)
        has_images = any(added.images for added in self._segment.inputs)
        if question is None and self._segment.messages and not has_images and not any(text.strip() for text in prompts):
            return None
        return "\n\n".join(prompts)

    async def _follow_prompt(self, prompt: str, folder: Path) -> SegmentEnd | None:
        """Change the plan as the prompt requires, or make the first one; return the segment's end if that ends it."""
        commands = find_commands(prompt) if self._segment.messages else []
        if commands:
            self._take_plan(prompt, commands)
            return None
        if self._journal.stop_requested:
            return Paused((), usage=self._usage())
        checkout = await asyncio.to_thread(describe_checkout, folder)
        images = [image for added in self._segment.inputs for image in added.images]
        content = planning_prompt(self._segment.run.prompt, checkout, self._progress, prompt, images)
        plan = await self._tools.planner.ask(content, self._tools.model, self._tools.usage, self._journal)
        if isinstance(plan, Failed):
            return plan
        # A question alone does not replace the earlier plan.
        replaced = self._progress.waiting if plan.commands or plan.question is None else []
        self._take_plan(prompt, plan.commands, plan.question, replaced)
        newest = self._progress.newest_question
        return self._wait_for(newest) if plan.question is not None and newest is not None else None

    def _take_plan(
        self, prompt: str, commands: Sequence[str], question: str | None = None, replaced: Sequence[Step] = ()
    ) -> None:
        """Write the plan down, with the prompt it follows: all of it in one commit."""
        for step in replaced:
            self._journal.settle_call(step.call_id, REPLACED)
            step.state = StepState.REPLACED
        calls = [ProposedCall(self._tools.ids.fresh(), RUN_COMMAND, {"command": command}) for command in commands]
        if question is not None:
            calls.append(ProposedCall(self._tools.ids.fresh(), ASK_HUMAN, {"question": question}))
        text = planned_text(commands) if question is None else question
        self._journal.record_turn([self._user_message(prompt), self._assistant_message(text, calls)], calls)
        self._progress.plan(calls)

    async def _work(self, folder: Path) -> SegmentEnd:
        try:
            rules = await asyncio.to_thread(self._command_rules)
        except OSError as error:
            message = f"The folder for the commands' own files cannot be created: {error.strerror}"
            return Failed(EndReason.AGENT_ERROR, message, self._usage())
        while (failed := self._progress.unexplained) is None:
            waiting = self._progress.waiting
            if not waiting:
                return await self._complete()
            if self._journal.stop_requested or not await self._run(waiting[0], folder, rules):
                return Paused((), usage=self._usage())
        return self._ask_about(failed)

    def _command_rules(self) -> CommandRules:
        commands = self._tools.commands
        home = commands.root.resolve() / _HOMES / str(self._segment.run.repo_id)
        home.mkdir(parents=True, exist_ok=True)
        if commands.user is not None:
            os.chown(home, *commands.user)
        environment = clean_environment(commands.search_path, home)
        return CommandRules(commands.timeout_seconds, commands.output_bytes, environment, commands.user)

    async def _run(self, step: Step, folder: Path, rules: CommandRules) -> bool:
        """Run one command and keep its result; return False if a pause was requested before it did anything."""
        await self._journal.start_call(step.call_id, idempotent=False)
        if self._is_stop_requested():
            await self._journal.defer_call(step.call_id)
            return False
        end = await run_command(step.command, folder, rules)
        result = self._progress.finish(step, end)
        self._journal.record_turn([self._tool_message(step)], [])
        await self._journal.finish_call(step.call_id, result)
        return True

    def _is_stop_requested(self) -> bool:
        # A request from another process arrives with a commit, such as that of a start.
        return self._journal.stop_requested

    def _ask_about(self, step: Step) -> Paused:
        call = question_about(step, self._progress)
        self._progress.plan([call])
        question = self._progress.questions[-1]
        self._journal.record_turn([self._assistant_message(question.message, [call])], [call])
        return self._wait_for(question)

    def _wait_for(self, question: Question) -> Paused:
        request = RequirementRequest(
            question.call_id, RequirementKind.EXTERNAL_EXECUTION, question=True, message=question.message
        )
        return Paused((request,), question.message, self._usage())

    async def _complete(self) -> Completed:
        text = completed_text(self._progress)
        self._journal.record_turn([self._assistant_message(text, [])], [])
        await self._journal.emit(EventType.CONTENT_DELTA, {"content": text})
        await self._journal.emit(EventType.CONTENT_COMPLETED)
        return Completed(text, usage=self._usage())

    def _usage(self) -> dict[str, int]:
        return counted(self._tools.usage)

    def _user_message(self, prompt: str) -> NewMessage:
        return self._message(
            self._request(prompt), TranscriptEntry(self._tools.ids.fresh(), "user", prompt, self._now())
        )

    def _assistant_message(self, text: str, calls: Sequence[ProposedCall]) -> NewMessage:
        made = tuple((call.tool_call_id, call.tool_name, call.tool_args) for call in calls)
        entry = TranscriptEntry(self._tools.ids.fresh(), "assistant", text, self._now(), tool_calls=made)
        return self._message(ModelResponse([TextPart(text)], timestamp=self._now()), entry)

    def _tool_message(self, step: Step) -> NewMessage:
        entry = TranscriptEntry(
            self._tools.ids.fresh(),
            "tool",
            step.text,
            self._now(),
            tool_call_id=step.call_id,
            tool_name=RUN_COMMAND,
            tool_args={"command": step.command},
            tool_call_error=step.state is StepState.FAILED,
        )
        return self._message(self._request(f"`{step.command}`: {step.ending}"), entry)

    def _request(self, text: str) -> ModelRequest:
        return ModelRequest([UserPromptPart(text, timestamp=self._now())], timestamp=self._now())

    def _message(self, message: ModelMessage, entry: TranscriptEntry) -> NewMessage:
        """Return the message in Pydantic AI's form, so that later runs of the session can have it as their history."""
        (native,) = ModelMessagesTypeAdapter.dump_python([message], mode="json")
        return NewMessage(native, (entry,))

    def _now(self) -> datetime:
        return self._tools.clock.now()
