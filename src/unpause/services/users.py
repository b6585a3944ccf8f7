"""Reads the users and the organization of a principal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.errors import NotFound
from unpause.store.users import find_first_user, find_organization, find_user, find_user_named, list_users

if TYPE_CHECKING:
    from unpause.domain.paging import Page
    from unpause.domain.principal import Principal
    from unpause.domain.users import Organization, User
    from unpause.store.engine.database import Connection, Database


class UserDirectory:
    """Reads users, always those of the principal's organization."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get_caller(self, principal: Principal) -> User:
        """Return the principal's user, or without a user id the organization's first user. Raises NotFound."""

        def unit(connection: Connection) -> User:
            organization_id = principal.organization_id
            if principal.user_id is None:
                return _found(find_first_user(connection, organization_id))
            return _found(find_user_named(connection, organization_id, principal.user_id))

        return await self._database.read(unit)

    async def get_user(self, principal: Principal, user_key: int) -> User:
        """Return the user of that id; raise NotFound."""
        return await self._database.read(
            lambda connection: _found(find_user(connection, principal.organization_id, user_key))
        )

    async def list_users(self, principal: Principal, page: Page) -> tuple[list[User], int]:
        """Return a page of the organization's users, and how many there are in all."""
        return await self._database.read(lambda connection: list_users(connection, principal.organization_id, page))

    async def get_organization(self, principal: Principal) -> Organization:
        """Return the principal's organization; raise NotFound."""

        def unit(connection: Connection) -> Organization:
            found = find_organization(connection, principal.organization_id)
            if found is None:
                raise NotFound("Organization not found.")
            return found

        return await self._database.read(unit)


def _found(user: User | None) -> User:
    if user is None:
        raise NotFound("User not found.")
    return user
