"""Limits on what clients may send and create, as the settings have them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from unpause.domain.json import dump_json
from unpause.errors import InvalidInput, RunLimitReached
from unpause.store.run_lists import count_runs
from unpause.store.users import lock_organization

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from unpause.services.commands import ContinueRun
    from unpause.store.engine.database import Connection

_LIMITED_DAYS = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """``runs`` is how many an organization may create in 30 days, ``unfinished`` how many may be unfinished at once.

    ``tools`` are the answers in one continue, ``json_chars`` the characters of one JSON value that is only kept.
    """

    runs: int | None = None
    unfinished: int | None = None
    tools: int = 256
    json_chars: int = 1_000_000

    def refuse_run(self, connection: Connection, organization_id: int, now: datetime) -> None:
        """Raise RunLimitReached where the organization has created as many runs as it may."""
        if self.runs is not None:
            # Two at once must not both take the last place.
            lock_organization(connection, organization_id)
            if count_runs(connection, organization_id, now - _LIMITED_DAYS) >= self.runs:
                raise RunLimitReached

    def refuse_answers(self, command: ContinueRun) -> None:
        """Raise InvalidInput for more answers than a continue may have."""
        if len(command.answers) > self.tools:
            raise too_many_tools(len(command.answers), self.tools)

    def refuse_json(self, values: Mapping[str, Any]) -> None:
        """Raise InvalidInput for a value whose JSON is too long."""
        for name, value in values.items():
            if value is not None and len(dump_json(value)) > self.json_chars:
                raise InvalidInput(f"{name} is longer than {self.json_chars} characters of JSON")


def too_many_tools(count: int, limit: int) -> InvalidInput:
    """Return the error of a request with too many answers."""
    return InvalidInput(f"tools has {count} items; {limit} may be sent at a time")
