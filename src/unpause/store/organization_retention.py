"""How long an organization's rows are kept, where that is not as the server's settings say."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import or_, select, update

from unpause.domain.retention import RetentionKind, RetentionRules
from unpause.store.tables import organizations

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

_COLUMNS: Final = tuple(organizations.c[kind.value] for kind in RetentionKind)


def list_own_rules(connection: Connection) -> list[tuple[int, RetentionRules]]:
    """Return the organizations that have rules of their own; None in them: none of its own, or forever."""
    query = select(organizations.c.id, *_COLUMNS).where(or_(*(column.is_not(None) for column in _COLUMNS)))
    return [
        (row.id, RetentionRules(**{kind.value: _length(getattr(row, kind.value)) for kind in RetentionKind}))
        for row in connection.execute(query)
    ]


def get_own_rules(
    connection: Connection, organization_id: int, *, locks: bool = False
) -> dict[RetentionKind, timedelta | None]:
    """Return the organization's own rules; a zero keeps forever, None is as the server's settings say.

    ``locks`` keeps them from being changed until the transaction ends.
    """
    query = select(*_COLUMNS).where(organizations.c.id == organization_id)
    row = connection.execute(query.with_for_update(read=True) if locks else query).one()
    return {
        kind: None if seconds is None else timedelta(seconds=seconds)
        for kind, seconds in zip(RetentionKind, row, strict=True)
    }


def set_own_rules(
    connection: Connection, organization_id: int, rules: Mapping[RetentionKind, timedelta | None]
) -> None:
    """Change these rules of the organization, as ``get_own_rules`` returns them."""
    values = {kind.value: None if length is None else int(length.total_seconds()) for kind, length in rules.items()}
    connection.execute(update(organizations).where(organizations.c.id == organization_id).values(values))


def _length(seconds: int | None) -> timedelta | None:
    return timedelta(seconds=seconds) if seconds else None
