"""One organization with several users on one server, and what one of them has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.access.guarded import Guarded, Person, guarded
from tests.support.office import JsonObject, plan
from unpause.domain.principal import DEFAULT_ORGANIZATION
from unpause.domain.scopes import ADMIN, USUAL

SESSION: Final = "alice's session"
SECRET: Final = "what only alice said"
DELETE: Final = plan([("delete_file", {"path": SECRET})])
DEPLOY: Final = plan([("deploy", {"env": SECRET})])


@dataclass(frozen=True)
class Town:
    """Users of one organization: ``alice`` has a session with a conversation and two paused runs in it.

    ``bob`` can do what is usual. ``decider`` may decide approvals as well, ``boss`` do everything; ``service`` is a
    program without a user of its own. ``delete`` waits for a confirmation, ``deploy`` for an approval.
    """

    server: Guarded
    alice: Person
    bob: Person
    decider: Person
    boss: Person
    service: Person
    delete: JsonObject
    deploy: JsonObject

    @property
    def approval_id(self) -> str:
        """Return the approval that ``deploy`` waits for."""
        (tool,) = self.deploy["tools"]
        return str(tool["approval_id"])

    async def key_of(self, run: JsonObject) -> int:
        """Return Codegen's id of a run."""
        rows = (await self.server.rows())["runs"]
        return next(int(row["id"]) for row in rows if row["run_id"] == run["run_id"])

    @asynccontextmanager
    async def nothing_changes(self) -> AsyncIterator[None]:
        """Fail unless the block leaves every row as it was, and runs no tool."""
        before, executed = await self.server.rows(), list(self.server.executed)
        yield
        assert await self.server.rows() == before
        assert self.server.executed == executed


@asynccontextmanager
async def in_town(folder: Path, database_url: str | None = None, **changes: Any) -> AsyncIterator[Town]:  # noqa: ANN401 - any setting
    """Serve on the database, by default one in ``folder``."""
    async with guarded(folder, database_url, **changes) as server:
        first = DEFAULT_ORGANIZATION
        alice = await server.person(first, "alice")
        await alice.run(SECRET, agent="parrot", session_id=SESSION)
        yield Town(
            server=server,
            alice=alice,
            bob=await server.person(first, "bob"),
            decider=await server.person(first, "decider", *USUAL, "approvals:write", "approvals:delete"),
            boss=await server.person(first, "boss", ADMIN),
            service=await server.person(first, None),
            delete=await alice.run(DELETE, session_id=SESSION),
            deploy=await alice.run(DEPLOY, session_id=SESSION),
        )
