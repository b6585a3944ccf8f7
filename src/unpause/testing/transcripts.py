"""A run as text, for the failure of a test: its messages, calls and decisions, and what it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.domain.events import EventType
from unpause.domain.requirements import Decision
from unpause.domain.runs import RunStatus
from unpause.testing.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from unpause.domain.events import Event
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import RunView, TranscriptEntry

_LONGEST = 2_000
_WORDS = {Decision.CONFIRMED: "approved", Decision.REJECTED: "rejected", Decision.ANSWERED: "answered"}


def transcript_of(view: RunView, events: Sequence[Event] = ()) -> str:
    """Return all of the run, a line for each thing that happened."""
    run = view.run
    lines = [f"Transcript of run {run.run_id} (agent {run.agent_id}, user {run.user_id}): {run.status.value}"]
    seen: set[str] = set()
    entries = [entry for message in view.messages for entry in message.entries]
    if not any(entry.role == "user" for entry in entries):
        lines.append(_line("user", run.prompt))
    for entry in entries:
        lines += _entry_lines(entry, view.requirements, seen)
    for requirement in view.requirements:
        if requirement.id not in seen:
            lines += _requirement_lines(requirement)
    reminders = sum(event.type is EventType.PAUSE_REMINDER for event in events)
    if reminders:
        lines.append(_line("server", f"reminded {reminders} times" if reminders > 1 else "reminded once"))
    if run.status in {RunStatus.ERROR, RunStatus.CANCELLED}:
        lines.append(_line("end", f"{run.end_reason or run.status.value}: {run.content}"))
        trace = (run.traceback or "").splitlines()
        # A script that does not fit says all of it in one line.
        if not any(line.startswith(WrongUse.__module__) for line in trace):
            lines += [f"    {line}" for line in trace]
    elif run.status is RunStatus.COMPLETED:
        lines.append(_line("output", run.content))
    return "\n".join(lines)


def call_text(tool: str, arguments: Mapping[str, Any]) -> str:
    """Return a call as it is written in Python."""
    return f"{tool}({', '.join(f'{name}={value!r}' for name, value in arguments.items())})"


def _entry_lines(entry: TranscriptEntry, requirements: Sequence[Requirement], seen: set[str]) -> Iterator[str]:
    if entry.tool_call_id is not None:
        yield _line("tool", f"{entry.tool_name} {'failed: ' if entry.tool_call_error else 'returned: '}{entry.content}")
        return
    if entry.content:
        yield _line("model" if entry.role == "assistant" else entry.role, entry.content)
    for call_id, tool, arguments in entry.tool_calls:
        yield _line("model", f"calls {call_text(tool, arguments)}")
        for requirement in requirements:
            if requirement.call_id == call_id:
                seen.add(requirement.id)
                yield from _requirement_lines(requirement)


def _requirement_lines(requirement: Requirement) -> Iterator[str]:
    call = call_text(requirement.tool_name, requirement.tool_args)
    for vote in requirement.votes:
        yield _line(vote.by, f"approved {call}, as one of several")
    answer = requirement.answer
    if answer is None:
        expires = "" if requirement.expires_at is None else f" until {requirement.expires_at:%Y-%m-%d %H:%M:%S}"
        doubt = " (in doubt: it may have run already)" if requirement.in_doubt else ""
        yield _line("waits", f"for {requirement.kind.value} of {call}{expires}{doubt}")
        return
    values = f" with {answer.values}" if answer.values else ""
    result = f" with {answer.result!r}" if answer.result is not None else ""
    note = f": {answer.note}" if answer.note else ""
    yield _line(answer.by or answer.via, f"{_WORDS[answer.decision]} {call}{values}{result}{note}")


def _line(who: str, text: object) -> str:
    shown = str(text)
    cut = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}… ({len(shown)} characters)"
    first, *rest = cut.splitlines() or [""]
    return "\n".join([f"  {who:<10} {first}", *(f"             {line}" for line in rest)])
