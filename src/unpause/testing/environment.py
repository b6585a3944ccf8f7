"""What a server in a test's process is made with: a clock that stands still, settings, a database with the schema."""

from __future__ import annotations

import atexit
import shutil
import tempfile
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from unpause.settings import Settings
from unpause.store.engine import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIGRATING: Final = threading.Lock()


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime | None = None) -> None:
        """Show this moment, or else the present one."""
        self._now = now or datetime.now(UTC)

    def now(self) -> datetime:
        """Return the moment that it shows."""
        return self._now

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)


class GivenSettings(Settings):
    """Settings from nothing but their arguments: a test does not depend on the environment that it runs in."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the one source."""
        del settings_cls
        return (init_settings,)


def migrated_sqlite_file() -> Path:
    """Return a SQLite file with the schema, to be copied; this process makes it once. From any thread."""
    with _MIGRATING:
        return _migrated_sqlite_file()


@cache
def _migrated_sqlite_file() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="unpause-template-"))
    atexit.register(shutil.rmtree, folder)
    migrate.upgrade(f"sqlite:///{folder / 'migrated.db'}")
    return folder / "migrated.db"


@contextmanager
def plain_logs() -> Iterator[None]:
    """Log in plain lines during the block, unless the test's own code has said how to log."""
    if structlog.is_configured():
        yield
        return
    log_plainly()
    try:
        yield
    finally:
        structlog.reset_defaults()


def log_plainly() -> None:
    """Log in plain lines: with rich, structlog's default draws all variables beside a traceback, for minutes."""
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ]
    )
