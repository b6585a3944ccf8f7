"""A grant that is not in force decides nothing, whatever was found a moment before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from unpause.domain.grants import Grant, GrantMatch, GrantScope
from unpause.store.engine.database import Database
from unpause.store.grants import add_grant, revoke_grant, use_grant

_NOW = datetime.now(UTC)
_GRANT = Grant(
    id="00000000-0000-4000-8000-000000000001",
    organization_id=1,
    agent_id="ops",
    tool_name="restart",
    scope=GrantScope.UNTIL,
    match=GrantMatch.TOOL,
    created_at=_NOW,
)


async def test_a_grant_that_was_revoked_or_has_expired_meanwhile_is_not_used(database_url: str) -> None:
    def unit(connection: Connection) -> list[bool]:
        expired = replace(_GRANT, id="00000000-0000-4000-8000-000000000002", expires_at=_NOW - timedelta(minutes=1))
        for grant in (_GRANT, expired):
            add_grant(connection, grant)
        before = use_grant(connection, _GRANT.id, _NOW)
        revoke_grant(connection, _GRANT.id, "ada", _NOW)
        return [before, use_grant(connection, _GRANT.id, _NOW), use_grant(connection, expired.id, _NOW)]

    async with Database(database_url).opened() as database:
        assert await database.write(unit) == [True, False, False]
