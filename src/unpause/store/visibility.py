"""Access control as part of the query: the one place where a caller's visibility becomes SQL conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Table

    from unpause.domain.principal import Visibility


def visible_to(table: Table, visibility: Visibility) -> list[ColumnElement[bool]]:
    """Return the conditions for rows of a table that has an ``organization_id`` and a ``user_id``."""
    conditions: list[ColumnElement[bool]] = [table.c.organization_id == visibility.organization_id]
    if visibility.user_id is not None:
        conditions.append(table.c.user_id == visibility.user_id)
    return conditions
