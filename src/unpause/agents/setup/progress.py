"""How far the preparation of a repository got, read from the run's calls: what ran, what failed, what comes next.

A plan is a turn of ``run_command`` calls. What is planned later runs first: a correction goes before the rest of the
plan it mends, and a new plan replaces that rest. A question to a human is a call of its own, in a turn of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from unpause.agents.driver import CallResult, ProposedCall
from unpause.domain.runs import CallStatus, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from unpause.agents.setup.shell import CommandEnd
    from unpause.domain.runs import ToolCall

RUN_COMMAND: Final = "run_command"
FIX_COMMAND: Final = "fix_command"
ASK_HUMAN: Final = "ask_human"

# How much of a command's output people and models are shown where it failed; all that was kept is in its result.
_SHOWN_CHARACTERS: Final = 4_000

REPLACED: Final = CallResult(Outcome.DENIED, {"replaced": True}, "Not run: another plan took its place.")


class StepState(StrEnum):
    """The state of a command. SKIPPED is one that a human declined to run again after a crash."""

    PLANNED = "planned"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    REPLACED = "replaced"


@dataclass(slots=True)
class Step:
    """One command of a plan. ``number`` is its place among all, once it has run; ``text`` the text of its result."""

    call_id: str
    command: str
    turn: int
    position: int
    state: StepState = StepState.PLANNED
    number: int = 0
    exit_code: int | None = None
    seconds: float = 0.0
    text: str = ""

    @property
    def ending(self) -> str:
        """How it ended, as a short text."""
        if self.exit_code is None:
            return f"stopped at its time limit after {self.seconds:.1f} s"
        return f"exit code {self.exit_code} after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True)
class Question:
    """A question to a human. ``answer`` is None until there is one; of a ``declined`` question it is the note.

    ``text`` is the question alone, ``message`` the question with its details.
    """

    call_id: str
    turn: int
    text: str
    message: str
    answer: str | None = None
    declined: bool = False


class Progress:
    """The state of one run, kept up to date by what its segment does."""

    def __init__(self, calls: Iterable[ToolCall]) -> None:
        known = list(calls)
        self.steps = [_step(call) for call in known if call.tool_name == RUN_COMMAND]
        self.questions = [_question(call) for call in known if call.tool_name in {FIX_COMMAND, ASK_HUMAN}]
        self._turn = 1 + max((call.turn for call in known), default=-1)

    @property
    def waiting(self) -> list[Step]:
        """The commands still to run, in order."""
        planned = (step for step in self.steps if step.state is StepState.PLANNED)
        return sorted(planned, key=lambda step: (-step.turn, step.position))

    @property
    def ran(self) -> list[Step]:
        """The commands that ran, in order; of those with the same number the last one is the correction."""
        ran = (step for step in self.steps if step.state in {StepState.SUCCEEDED, StepState.FAILED})
        return sorted(ran, key=lambda step: (step.number, step.turn, step.position))

    @property
    def script(self) -> list[str]:
        """The commands that prepare the repository: those that succeeded, in order."""
        return [step.command for step in self.ran if step.state is StepState.SUCCEEDED]

    @property
    def skipped(self) -> list[Step]:
        """The commands that a human declined to run again after a crash."""
        return [step for step in self.steps if step.state is StepState.SKIPPED]

    @property
    def next_number(self) -> int:
        """The place of the command that runs next."""
        return 1 + sum(step.state in {StepState.SUCCEEDED, StepState.SKIPPED} for step in self.steps)

    @property
    def unexplained(self) -> Step | None:
        """The command that failed and has no question yet."""
        questioned = {question.call_id for question in self.questions}
        failed = (step for step in self.steps if step.state is StepState.FAILED)
        return next((step for step in failed if fix_id(step) not in questioned), None)

    @property
    def newest_question(self) -> Question | None:
        """The latest question, open or answered, that no plan has followed."""
        newest = self.questions[-1] if self.questions else None
        return newest if newest is not None and newest.turn == self._turn - 1 else None

    def plan(self, calls: Sequence[ProposedCall]) -> None:
        """Add a new turn of calls."""
        for position, call in enumerate(calls):
            if call.tool_name == RUN_COMMAND:
                self.steps.append(Step(call.tool_call_id, call.tool_args["command"], self._turn, position))
            else:
                self.questions.append(Question(call.tool_call_id, self._turn, *_texts(call.tool_args)))
        if calls:
            self._turn += 1

    def finish(self, step: Step, end: CommandEnd) -> CallResult:
        """Record how a command ended; return its result for the journal."""
        step.number = self.next_number
        step.exit_code, step.seconds = end.exit_code, end.seconds
        step.state = StepState.SUCCEEDED if end.exit_code == 0 else StepState.FAILED
        output = f"…{end.output}" if end.cut else end.output
        step.text = f"{step.ending}\n{output}" if output else step.ending
        outcome = Outcome.SUCCESS if end.exit_code == 0 else Outcome.FAILED
        value = {"number": step.number, "exit_code": end.exit_code, "seconds": round(end.seconds, 3)}
        return CallResult(outcome, value, step.text)


def fix_id(step: Step) -> str:
    """Return the id of the call that asks about a failed command: the same one after any crash."""
    return f"fix-{step.call_id}"


def question_about(step: Step, progress: Progress) -> ProposedCall:
    """Return the call that asks a human about a failed command."""
    number = step.number
    arguments = {
        "command": step.command,
        "exit_code": step.exit_code,
        "output": shown_output(step),
        "number": number,
        "of": number + len(progress.waiting),
    }
    return ProposedCall(fix_id(step), FIX_COMMAND, arguments)


def shown_output(step: Step) -> str:
    """Return the end of a command's output, as much of it as people and models are shown."""
    shown = step.text.partition("\n")[2].rstrip()
    return shown if len(shown) <= _SHOWN_CHARACTERS else "…" + shown[-_SHOWN_CHARACTERS:]


def _step(call: ToolCall) -> Step:
    kept = call.result if isinstance(call.result, Mapping) else {}
    return Step(
        call_id=call.tool_call_id,
        command=call.tool_args["command"],
        turn=call.turn,
        position=call.position,
        state=_state(call, kept),
        number=kept.get("number", 0),
        exit_code=kept.get("exit_code"),
        seconds=kept.get("seconds", 0.0),
        text=call.result_text or "",
    )


def _state(call: ToolCall, kept: Mapping[str, Any]) -> StepState:
    if call.status is not CallStatus.FINISHED:
        return StepState.PLANNED
    match call.outcome:
        case Outcome.SUCCESS:
            return StepState.SUCCEEDED
        case Outcome.DENIED:
            return StepState.REPLACED if kept.get("replaced") else StepState.SKIPPED
        case _:
            return StepState.FAILED


def _question(call: ToolCall) -> Question:
    declined = call.outcome is Outcome.DENIED
    finished = call.status is CallStatus.FINISHED
    answer = (call.result_text or "") if finished else None
    return Question(call.tool_call_id, call.turn, *_texts(call.tool_args), answer, declined)


def _texts(arguments: Mapping[str, Any]) -> tuple[str, str]:
    """Return the question alone, and with its details."""
    question = arguments.get("question")
    if isinstance(question, str):
        return question, question
    code = arguments["exit_code"]
    failed = "was stopped at its time limit" if code is None else f"failed with exit code {code}"
    first = f"Command {arguments['number']} of {arguments['of']} {failed}: `{arguments['command']}`"
    lines = [first, arguments["output"], "Reply with corrected commands or advice."]
    return first, "\n".join(text for text in lines if text)
