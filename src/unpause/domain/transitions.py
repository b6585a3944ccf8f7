"""Which trigger moves a run from which statuses to which: the whole state machine, as data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from unpause.domain.runs import RunStatus

if TYPE_CHECKING:
    from collections.abc import Mapping


class Trigger(StrEnum):
    """What changes a run's status."""

    CLAIM = "claim"
    RELEASE = "release"
    PAUSE = "pause"
    CONTINUE = "continue"
    COMPLETE = "complete"
    FAIL = "fail"
    GIVE_UP = "give_up"
    CANCEL = "cancel"
    EXPIRE = "expire"


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table.

    An executor triggers ``fenced`` rows and must present the fence of its claim.
    """

    sources: frozenset[RunStatus]
    target: RunStatus
    fenced: bool = False


def _row(target: RunStatus, *sources: RunStatus, fenced: bool = False) -> Transition:
    return Transition(frozenset(sources), target, fenced)


TRANSITIONS: Mapping[Trigger, Transition] = MappingProxyType(
    {
        Trigger.CLAIM: _row(RunStatus.RUNNING, RunStatus.PENDING),
        Trigger.RELEASE: _row(RunStatus.PENDING, RunStatus.RUNNING),
        Trigger.PAUSE: _row(RunStatus.PAUSED, RunStatus.RUNNING, fenced=True),
        Trigger.CONTINUE: _row(RunStatus.PENDING, RunStatus.PAUSED),
        Trigger.COMPLETE: _row(RunStatus.COMPLETED, RunStatus.RUNNING, fenced=True),
        Trigger.FAIL: _row(RunStatus.ERROR, RunStatus.RUNNING, fenced=True),
        # Of a run whose stored state cannot be read, so that no process can execute it.
        Trigger.GIVE_UP: _row(RunStatus.ERROR, RunStatus.PENDING),
        Trigger.CANCEL: _row(RunStatus.CANCELLED, RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED),
        Trigger.EXPIRE: _row(RunStatus.CANCELLED, RunStatus.PAUSED),
    }
)
