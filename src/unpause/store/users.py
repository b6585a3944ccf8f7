"""Organizations and their users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select

from unpause.domain.users import Organization, User
from unpause.store.engine.dialects import Upsert
from unpause.store.paging import paged
from unpause.store.tables import organizations, users

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from unpause.domain.paging import Page

# No database has others, and looking one up is an error of the driver instead of an empty result.
_KEYS = range(2**63)

_COLUMNS = (
    users.c.id,
    users.c.organization_id,
    users.c.name,
    users.c.role,
    users.c.full_name,
    users.c.email,
)
_ENSURE_USER = Upsert(users, (users.c.organization_id, users.c.name))


def find_user(connection: Connection, organization_id: int, user_key: int) -> User | None:
    """Return the user, or None where the organization has none of that id."""
    if user_key not in _KEYS:
        return None
    return _first(connection, _of(organization_id).where(users.c.id == user_key))


def find_user_named(connection: Connection, organization_id: int, name: str) -> User | None:
    """Return the user, or None where the organization has none of that name."""
    return _first(connection, _of(organization_id).where(users.c.name == name))


def find_first_user(connection: Connection, organization_id: int) -> User | None:
    """Return the organization's first user, as whom everyone acts on an open server; None where it has none."""
    return _first(connection, _of(organization_id).order_by(users.c.id).limit(1))


def ensure_user(connection: Connection, organization_id: int, name: str, role: str, now: datetime) -> None:
    """Add a user of that name, unless the organization has one."""
    added = {"organization_id": organization_id, "name": name, "role": role, "created_at": now}
    _ENSURE_USER.on(connection).all(connection, added)


def list_users(connection: Connection, organization_id: int, page: Page) -> tuple[list[User], int]:
    """Return a page of the organization's users in the order they came, and how many there are in all."""
    query = paged(_of(organization_id).order_by(users.c.id), page)
    counted = select(func.count()).select_from(users).where(users.c.organization_id == organization_id)
    found = [User(**row) for row in connection.execute(query).mappings()]
    return found, int(connection.execute(counted).scalar_one())


def find_organization(connection: Connection, organization_id: int) -> Organization | None:
    """Return the organization, or None where there is none of that id."""
    if organization_id not in _KEYS:
        return None
    query = select(organizations.c.id, organizations.c.name).where(organizations.c.id == organization_id)
    row = connection.execute(query).first()
    return None if row is None else Organization(row.id, row.name)


def add_organization(connection: Connection, name: str, now: datetime) -> int:
    """Add an organization and return its id."""
    added = insert(organizations).values(name=name, created_at=now).returning(organizations.c.id)
    return int(connection.execute(added).scalar_one())


def list_organizations(connection: Connection) -> list[Organization]:
    """Return all organizations, oldest first: for the server's operator."""
    query = select(organizations.c.id, organizations.c.name).order_by(organizations.c.id)
    return [Organization(row.id, row.name) for row in connection.execute(query)]


def lock_organization(connection: Connection, organization_id: int) -> None:
    """Make other transactions that call this wait for the end of this one. SQLite has one writer anyway."""
    query = select(organizations.c.id).where(organizations.c.id == organization_id)
    # Not against rows that only refer to the organization, such as every run that is added.
    connection.execute(query.with_for_update(key_share=True))


def _of(organization_id: int) -> Select[Any]:
    return select(*_COLUMNS).where(users.c.organization_id == organization_id)


def _first(connection: Connection, query: Select[Any]) -> User | None:
    row = connection.execute(query).mappings().first()
    return None if row is None else User(**row)
