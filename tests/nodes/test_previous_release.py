"""The tests with two versions are skipped where the previous release cannot be had, and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.previous_release import find_previous_release

NAMED = "tests/nodes/previous_release"


def git(root: Path, *arguments: str) -> str:
    program = shutil.which("git") or pytest.skip("this machine has no git")
    # Within a hook of git these would name the repository of this project.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for role in ("AUTHOR", "COMMITTER"):
        environment |= {f"GIT_{role}_NAME": "Somebody", f"GIT_{role}_EMAIL": "somebody@example.org"}
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        [program, "-C", root, *arguments], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(root: Path, named: str | None = None) -> str:
    """Make a commit, which names a previous release if one is given; return it."""
    if named is not None:
        (root / NAMED).write_text(named + "\n", encoding="utf-8")
        git(root, "add", NAMED)
    git(root, "commit", "--allow-empty", "--message", "Changes")
    return git(root, "rev-parse", "HEAD")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "origin"
    (root / NAMED).parent.mkdir(parents=True)
    git(root, "init", "--quiet")
    return root


def test_a_whole_history_has_the_previous_release(root: Path) -> None:
    released = commit(root)
    commit(root, released)
    assert find_previous_release(root) == released


def test_a_commit_that_is_lost_fails_the_tests_and_skips_none(root: Path) -> None:
    commit(root)
    commit(root, "9cc217992e884ded9779554f4b49245f8527e375")
    with pytest.raises(pytest.fail.Exception, match="which is not in the history"):
        find_previous_release(root)


def test_a_commit_that_is_here_but_not_in_what_is_pushed_fails_the_tests(root: Path) -> None:
    first = commit(root)
    abandoned = commit(root)
    git(root, "reset", "--hard", first)
    commit(root, abandoned)
    with pytest.raises(pytest.fail.Exception, match="which is not in the history"):
        find_previous_release(root)


def test_a_shallow_clone_skips_the_tests(root: Path, tmp_path: Path) -> None:
    commit(root, commit(root))
    commit(root)
    clone = tmp_path / "clone"
    git(root, "clone", "--quiet", "--depth", "2", root.as_uri(), str(clone))
    with pytest.raises(pytest.skip.Exception):
        find_previous_release(clone)


def test_a_history_that_begins_with_the_name_skips_the_tests(root: Path) -> None:
    commit(root, "9cc217992e884ded9779554f4b49245f8527e375")
    commit(root)
    with pytest.raises(pytest.skip.Exception):
        find_previous_release(root)


def test_a_folder_without_repository_skips_the_tests(tmp_path: Path) -> None:
    with pytest.raises(pytest.skip.Exception):
        find_previous_release(tmp_path)
