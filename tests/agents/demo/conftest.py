"""A workspace of the demo agent, and a file beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from unpause.agents.demo.workspace import prepare_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    prepare_workspace(folder)
    return folder


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Make a file beside the workspace, which no tool may reach."""
    file = tmp_path / "secret.txt"
    file.write_text("secret")
    return file
