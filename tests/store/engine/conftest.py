"""Migrations of a test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.migrations import NextMigration


@pytest.fixture
def next_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NextMigration:
    """Return what writes a migration that comes after this version's."""
    return NextMigration(tmp_path, monkeypatch)
