"""A time is stored and read on SQLite as SQLAlchemy does it, whichever way a statement goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import create_engine

from unpause.store.columns import Instant, sqlite_instant, sqlite_text

EAST = timezone(timedelta(hours=5, minutes=30))


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 11, 27, 15, 4, 5, 678, tzinfo=UTC),
        datetime(2026, 11, 27, 1, 0, tzinfo=EAST),
        datetime(1, 1, 2, tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
    ],
)
def test_a_time_is_stored_and_read_as_sqlalchemy_does(moment: datetime) -> None:
    dialect = create_engine("sqlite://").dialect
    kind = Instant().dialect_impl(dialect)
    write, read = kind.bind_processor(dialect), kind.result_processor(dialect, None)
    assert write is not None
    assert read is not None
    assert sqlite_text(moment) == write(moment)
    assert sqlite_instant(sqlite_text(moment)) == read(write(moment)) == moment
    assert sqlite_instant(sqlite_text(moment)).tzinfo is UTC


def test_a_time_without_a_zone_is_not_stored() -> None:
    with pytest.raises(ValueError, match="time zone"):
        sqlite_text(datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is refused
