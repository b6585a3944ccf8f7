"""Has tools check the values that humans chose, before anything is decided and outside of any transaction.

An author's validator may take long, and must hold neither the database nor the event loop. So a transaction that finds
unchecked values is rolled back, the values are checked, and it runs again. The usual transaction has none, and costs
nothing more.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from unpause.domain.forms import read_value
from unpause.domain.json import dump_json
from unpause.errors import RequirementMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unpause.agents.driver import AgentDriver
    from unpause.agents.registry import AgentRegistry
    from unpause.domain.requirements import Requirement, ToolAnswer
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection, Database

T = TypeVar("T")


class ValuesUnchecked(Exception):
    """Leaves a transaction that found values which are not checked yet."""

    def __init__(self, run: Run, requirement: Requirement, values: Mapping[str, Any]) -> None:
        super().__init__("the values have to be checked first")
        self.run = run
        self.requirement = requirement
        self.values = values


class ValueChecks:
    """The values of one request that were checked, and how they are kept."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Mapping[str, Any], dict[str, Any]]] = {}

    def add(self, unchecked: ValuesUnchecked, kept: dict[str, Any]) -> None:
        """Remember how the values of an answer are kept."""
        self._kept[unchecked.requirement.id] = (unchecked.values, kept)

    def take(self, run: Run, requirement: Requirement, answer: ToolAnswer) -> ToolAnswer:
        """Return the answer with its values as they are kept; raise ValuesUnchecked where they were not checked."""
        if not answer.values or answer.confirmed is False:
            return answer
        sent, kept = self._kept.get(requirement.id, (None, {}))
        # As JSON: NaN does not equal itself, and would be checked without end.
        if dump_json(sent) != dump_json(answer.values):
            raise ValuesUnchecked(run, requirement, answer.values)
        return replace(answer, values=kept)


async def write_checked(
    database: Database,
    agents: AgentRegistry,
    unit: Callable[[Connection, ValueChecks], T],
    then: Callable[[T], None],
) -> T:
    """Run ``unit`` in a transaction once the tools have checked its values; raise RequirementMismatch for bad ones.

    ``then`` is called as ``Database.write`` does.
    """
    checks = ValueChecks()
    while True:
        try:
            return await database.write(lambda connection: unit(connection, checks), then)
        except ValuesUnchecked as found:
            unchecked = found
        await agents.expect()
        driver = agents.find_driver(unchecked.run)
        checks.add(unchecked, await asyncio.to_thread(_check, driver, unchecked.requirement, unchecked.values))


def _check(driver: AgentDriver | None, requirement: Requirement, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as they are kept; raise RequirementMismatch that repeats none of them."""
    call = requirement.label
    fields = {field.name: field for field in requirement.fields}
    is_open = {field.name for field in requirement.fields if field.open}
    shown = {name: value for name, value in requirement.tool_args.items() if name not in is_open}
    check = None
    if driver is not None:
        check = driver.check_arguments(requirement.tool_name, {**shown, **values}, frozenset(values))
    if check is None:
        # Only a run can have the tool check them. What is plainly wrong is found without it.
        return {
            name: read_value(call, fields[name], value) if name in fields else value for name, value in values.items()
        }
    if check.problems:
        problems = "; ".join(f"field {name!r}: {reason}" for name, reason in check.problems.items())
        raise RequirementMismatch(f"{call}: {problems}")
    return {**values, **check.values}
