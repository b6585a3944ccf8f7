"""The previous release: its code beside this one's, to share a database with it.

`tests/nodes/previous_release` names its commit; set it to that of the last release when one is made.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import pytest

from tests.support.client_environments import ROOT
from tests.support.processes import Program

_NAMED: Final = ROOT / "tests/nodes/previous_release"
_PARTS: Final = ("src", "migrations", "tests/nodes/agents_file.py")


@dataclass(frozen=True, slots=True)
class PreviousRelease:
    """A tree of the previous release, run with the packages of this environment."""

    tree: Path

    @property
    def schema(self) -> str:
        """The revision of its schema."""
        return max(file.name.partition("_")[0] for file in (self.tree / "migrations/versions").glob("[0-9]*.py"))

    @property
    def agents(self) -> Path:
        """The agents of these tests as it has them."""
        return self.tree / "tests/nodes/agents_file.py"

    def launch(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Program:
        """Start its command."""
        return cast(
            "Program",
            subprocess.Popen(
                [sys.executable, "-m", "unpause", *arguments],
                cwd=folder,
                # Before what is installed in this environment.
                env={**environment, "PYTHONPATH": str(self.tree / "src")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ),
        )


def check_out_previous_release(folder: Path) -> PreviousRelease:
    """Return the previous release in a folder; skip the test where its commit is not at hand."""
    commit = _NAMED.read_text(encoding="utf-8").strip()
    git = shutil.which("git") or pytest.skip("this machine has no git")
    archive = subprocess.run([git, "-C", ROOT, "archive", commit, *_PARTS], capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip(f"the commit of the previous release, {commit[:9]}, is not here: a shallow clone, or none")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return PreviousRelease(folder)
