"""Migrations that come after those of this version: what a newer version would bring."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from unpause.store.engine import migrate

NEXT: Final = "9999"


class NextMigration:
    """A migration on top of a copy of this version's; in this process Alembic uses the copy."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder / "migrations"
        shutil.copytree(migrate.migrations_folder(), self._folder, ignore=shutil.ignore_patterns("__pycache__"))
        self._head = "\n".join(
            (
                "import sqlalchemy as sa",
                "from alembic import op",
                "from unpause.store.engine import online",
                f"revision, down_revision = '{NEXT}', '{migrate.head()}'",
            )
        )
        monkeypatch.setattr(migrate, "migrations_folder", lambda: self._folder)

    def __call__(self, body: str, oldest_code: str | None = None, back: str = "pass") -> None:
        """Write it, with these bodies of ``upgrade`` and ``downgrade``."""
        code = f"def upgrade():\n    {body}\ndef downgrade():\n    {back}\n"
        file = self._folder / "versions" / f"{NEXT}_next.py"
        file.write_text(f"{self._head}\noldest_code = {oldest_code!r}\n{code}", encoding="utf-8")
