"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, BigInteger, DateTime, Integer, TypeDecorator

from unpause.domain.json import dump_json, load_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Dialect
    from sqlalchemy.types import TypeEngine

# SQLite only counts up by itself in a column that is exactly INTEGER.
Key = BigInteger().with_variant(Integer(), "sqlite")

# Not `jsonb`, which sorts keys and turns 1e22 into an integer: a call has to run exactly as it was shown.
Json = JSON(none_as_null=True)


class Instant(TypeDecorator[datetime]):
    """A point in time: an aware datetime in UTC in the code, whatever the database stores."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Return the time in UTC; raise ValueError for one without a zone."""
        return None if value is None else _in_utc(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ANN401, ARG002 - SQLAlchemy's signature
        """Return the time as an aware datetime in UTC."""
        return None if value is None else _read(value)


def sqlite_binder(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what writes a value that is not None, in fewer steps than SQLAlchemy; None where only that knows."""
    return sqlite_text if isinstance(kind, Instant) else dump_json if type(kind) is JSON else None


def sqlite_reader(kind: TypeEngine[Any]) -> Callable[[Any], Any] | None:
    """Return what reads a value that is not NULL, in fewer steps than SQLAlchemy; None where only that knows."""
    return sqlite_instant if isinstance(kind, Instant) else load_json if type(kind) is JSON else None


def sqlite_text(value: datetime) -> str:
    """Return what SQLite stores of an ``Instant``, as SQLAlchemy writes it; raise ValueError without a time zone."""
    return _in_utc(value).isoformat(" ", "microseconds").removesuffix("+00:00")


def sqlite_instant(text: str) -> datetime:
    """Return the ``Instant`` that SQLite has stored."""
    return _read(datetime.fromisoformat(text))


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        message = "a time without a time zone cannot be stored"
        raise ValueError(message)
    return value if value.tzinfo is UTC else value.astimezone(UTC)


def _read(stored: datetime) -> datetime:
    return stored.replace(tzinfo=UTC) if stored.tzinfo is None else stored.astimezone(UTC)
