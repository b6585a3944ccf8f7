"""One organization with several users on one server, and what one of them has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.server import Server, User, served
from tests.support.toolbox import JsonObject, plan
from unpause.domain.principal import DEFAULT_ORGANIZATION
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES

SESSION: Final = "alice's session"
SECRET: Final = "what only alice said"
DELETE: Final = plan([("delete_file", {"path": SECRET})])
DEPLOY: Final = plan([("deploy", {"env": SECRET})])


@dataclass(frozen=True)
class Users:
    """Users of one organization: ``alice`` has a session with a conversation and two paused runs in it.

    ``bob`` can do what is usual. ``decider`` may decide approvals as well, ``boss`` do everything; ``service`` is a
    program without a user of its own. ``delete`` waits for a confirmation, ``deploy`` for an approval.
    """

    server: Server
    alice: User
    bob: User
    decider: User
    boss: User
    service: User
    delete: JsonObject
    deploy: JsonObject

    @property
    def approval_id(self) -> str:
        """Return the approval that ``deploy`` waits for."""
        (tool,) = self.deploy["tools"]
        return str(tool["approval_id"])

    def nothing_changes(self) -> AbstractAsyncContextManager[None]:
        """Fail unless the block leaves every row as it was, and runs no tool."""
        return self.server.nothing_changes()


@asynccontextmanager
async def served_users(folder: Path, database_url: str | None = None, **changes: Any) -> AsyncIterator[Users]:  # noqa: ANN401 - any setting
    """Serve on the database, by default one in ``folder``."""
    async with served(folder, tokens={}, database_url=database_url, **changes) as server:
        first = DEFAULT_ORGANIZATION
        alice = await server.add_user(first, "alice")
        await alice.create(SECRET, agent="other", session_id=SESSION)
        yield Users(
            server=server,
            alice=alice,
            bob=await server.add_user(first, "bob"),
            decider=await server.add_user(first, "decider", *DEFAULT_SCOPES, "approvals:write", "approvals:delete"),
            boss=await server.add_user(first, "boss", ADMIN),
            service=await server.add_user(first, None),
            delete=await alice.create(DELETE, session_id=SESSION),
            deploy=await alice.create(DEPLOY, session_id=SESSION),
        )
