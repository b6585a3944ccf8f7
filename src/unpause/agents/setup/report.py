"""The texts that report the preparation of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.agents.setup.progress import Progress, Step


def planned_text(commands: Sequence[str]) -> str:
    """Return the announcement of commands before they run."""
    if not commands:
        return "Nothing has to be run."
    return "\n".join(["These commands are run next:", *(f"- `{command}`" for command in commands)])


def completed_text(progress: Progress) -> str:
    """Return the result of a run that finished its plan: what ran, and the resulting script."""
    if not progress.ran and not progress.skipped:
        return "Nothing had to be run."
    return "\n\n".join(["The repository is prepared.", *_account(progress)])


def stopped_text(progress: Progress, note: str) -> str:
    """Return the result of a run that ended because a human declined a question."""
    first = f"The preparation is not finished, and nobody answered how to go on. {note}".rstrip()
    return "\n\n".join([first, *_account(progress)])


def _account(progress: Progress) -> list[str]:
    parts = []
    if progress.ran:
        parts.append("Commands:\n" + "\n".join(_line(step) for step in progress.ran))
    if progress.skipped:
        skipped = (f"- `{step.command}`: {step.text}" for step in progress.skipped)
        parts.append("Cut off by a crash and not run again:\n" + "\n".join(skipped))
    if progress.script:
        parts.append("Script:\n```sh\n" + "\n".join(progress.script) + "\n```")
    return parts


def _line(step: Step) -> str:
    return f"{step.number}. `{step.command}`: {step.ending}"
