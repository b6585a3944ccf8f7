"""The checkout of a repository: where it is, and its description for a model."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LARGEST_ID: Final = 2**63 - 1

_MAX_NAMES: Final = 400
_DEEPEST: Final = 4
_FILE_BYTES: Final = 8_000
_ALL_BYTES: Final = 48_000

# Folders of generated files.
_SKIPPED: Final = frozenset(
    {".git", ".hg", ".mypy_cache", ".pytest_cache", ".tox", ".venv", "__pycache__", "dist", "node_modules", "target"}
    | {"build", "vendor", "venv"}
)

# Prefixes, in lower case, of the names of files that describe how to prepare a repository.
_TELLING: Final = (
    "readme",
    "contributing",
    "install",
    "makefile",
    "justfile",
    "taskfile.",
    "dockerfile",
    "docker-compose.",
    "compose.",
    "pyproject.toml",
    "setup.py",
    "setup.cfg",
    "requirements",
    "tox.ini",
    "pipfile",
    "environment.yml",
    "package.json",
    "pnpm-workspace.yaml",
    ".nvmrc",
    ".node-version",
    ".python-version",
    ".tool-versions",
    "go.mod",
    "cargo.toml",
    "gemfile",
    "composer.json",
    "pom.xml",
    "build.gradle",
    "cmakelists.txt",
)


def find_checkout(root: Path, repo_id: int) -> Path | None:
    """Return the folder named after the repository in ``root``, with links followed; None where there is none.

    One that leads out of ``root`` is none.
    """
    if not 0 <= repo_id <= _LARGEST_ID:
        return None
    try:
        home = root.resolve(strict=True)
        folder = (home / str(repo_id)).resolve(strict=True)
    except (OSError, RuntimeError):
        # RuntimeError is a circle of links, until Python 3.13.
        return None
    inside = folder != home and folder.is_relative_to(home)
    return folder if inside and folder.is_dir() else None


def describe_checkout(folder: Path) -> str:
    """Return the names of the files, four folders deep and at most 400, and how those begin that say how to prepare it.

    Links are named and not followed. Bytes that are no UTF-8 are marked as such.
    """
    names: list[str] = []
    for name in _walk(folder, "", 1):
        if len(names) == _MAX_NAMES:
            names.append("… and more")
            break
        names.append(name)
    parts = ["Files:\n" + ("\n".join(names) or "none")]
    left = _ALL_BYTES
    for name in sorted(filter(_tells, names), key=lambda name: (name.count("/"), name)):
        content = _read_beginning(folder / name, min(_FILE_BYTES, left))
        left -= len(content)
        if text := content.decode("utf-8", errors="replace").strip():
            parts.append(f"{name}:\n{text}")
    return "\n\n".join(parts).replace("\x00", "\ufffd")


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[str]:
    """Yield names relative to the top, a folder's files before the folders in it; a folder's name ends in ``/``."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        return
    folders = []
    for entry in entries:
        # A name may be any bytes; what is no UTF-8 must not reach a model or a database.
        name = prefix + entry.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if entry.is_dir(follow_symlinks=False):
            folders.append((entry, name))
        else:
            yield name
    for entry, name in folders:
        yield f"{name}/"
        if depth < _DEEPEST and entry.name not in _SKIPPED:
            yield from _walk(Path(entry.path), f"{name}/", depth + 1)


def _tells(name: str) -> bool:
    return name.rpartition("/")[2].lower().startswith(_TELLING)


def _read_beginning(path: Path, most: int) -> bytes:
    """Return the first bytes of a plain file, and nothing of anything else: no link is followed, no pipe waited for."""
    if most <= 0:
        return b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, opened so that links are refused
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return file.read(most)
