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

_NAMED: Final = "tests/nodes/previous_release"
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
    """Return the previous release in a folder; skip the test where the repository does not reach back to it."""
    archive = _git(ROOT, "archive", find_previous_release(ROOT), *_PARTS)
    archive.check_returncode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return PreviousRelease(folder)


def find_previous_release(root: Path) -> str:
    """Return the commit of the previous release; skip the test where the repository does not reach back to it.

    That is a shallow clone, a history that begins with the name (an export), or no repository. Anywhere else the test
    fails if the history lacks the commit: once it had been lost, and the tests were skipped everywhere.
    """
    is_shallow = _git(root, "rev-parse", "--is-shallow-repository")
    before = _git(root, "log", "-1", "--format=%P", "--", _NAMED)
    if is_shallow.stdout.strip() != b"false" or not before.stdout.strip():
        pytest.skip("the repository does not reach back to the previous release")
    commit = (root / _NAMED).read_text(encoding="utf-8").strip()
    if _git(root, "merge-base", "--is-ancestor", commit, "HEAD").returncode != 0:
        pytest.fail(f"{_NAMED} names {commit}, which is not in the history")
    return commit


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    git = shutil.which("git") or pytest.skip("this machine has no git")
    return subprocess.run([git, "-C", root, *arguments], capture_output=True, check=False)
