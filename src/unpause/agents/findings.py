"""What a check of agents found, and what it says about each agent: the same for the command, tests and a start."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterable


class Severity(StrEnum):
    """Whether a finding keeps the agents from being served."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; the path is relative where the file is below the working folder."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. ``code`` is a stable name of its kind; ``trace`` has the author's frames of an exception."""

    severity: Severity
    code: str
    message: str
    place: Place | None = None
    agent: str | None = None
    tool: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place is not None else ""
        return f"{where}{self.severity}: {self.message}"


@dataclass(frozen=True, slots=True)
class CheckedTool:
    """A tool as far as it is known without a run. ``waits_for`` is ``nothing`` where its calls run at once.

    ``decided_by`` says in words who may decide; ``fields`` are filled in by people, ``editable`` may be changed.
    """

    name: str
    place: Place | None
    waits_for: str
    decided_by: str | None
    fields: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    expires_in: float | None = None
    on_expire: str | None = None
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class CheckedAgent:
    """An agent that was found. ``id`` is None for one without a name; ``in_runs`` names what has tools only in runs."""

    id: str | None
    place: Place | None
    model: str | None
    deps: str | None
    output: str
    tools: tuple[CheckedTool, ...]
    in_runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All that a check found, in the order of the files."""

    agents: tuple[CheckedAgent, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the agents from being served."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What is probably not what the author wants."""
        return self._of(Severity.WARNING)

    def refuse_errors(self) -> None:
        """Raise InvalidSetting with all errors, if there are any."""
        if self.errors:
            raise InvalidSetting("; ".join(map(_in_one_line, self.errors)))

    def _of(self, severity: Severity) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity is severity)


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings by file and line, errors before warnings of one line; those without a place come first."""
    return tuple(sorted(findings, key=_order))


def _order(finding: Finding) -> tuple[str, int, str]:
    place = finding.place or Place("", 0)
    return (place.file, place.line, finding.severity)


def _in_one_line(finding: Finding) -> str:
    where = f"{finding.place}: " if finding.place is not None else ""
    return f"{where}{finding.message}"
