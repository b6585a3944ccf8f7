"""The Python files that agents are made of: which they are, and which of them have other content than before."""

from __future__ import annotations

import hashlib
import os
import site
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from time import time, time_ns
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_OWN: Final = Path(__file__).resolve().parents[2]
# Folders that hold no code of the author's, besides hidden ones and virtual environments.
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})
_MAX_SUBFOLDERS: Final = 200
# Bytecode names its source by the size and the second of its last change.
_YOUNG_SECONDS: Final = 2
# The clock of a file system is behind the system's by up to a tick.
_CLOCK_TICK: Final = 50_000_000


def loaded_files(error: BaseException | None = None) -> tuple[str, ...]:
    """Return the files of all modules that are loaded and neither installed nor ours, and those that ``error`` names.

    A module that failed to load is none of the loaded ones: its file is in the traceback.
    """
    names = {getattr(module, "__file__", None) for module in tuple(sys.modules.values())}
    while error is not None:
        names.add(getattr(error, "filename", None) if isinstance(error, SyntaxError) else None)
        trace = error.__traceback__
        while trace is not None:
            names.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    texts = (name for name in names if isinstance(name, str) and name.endswith(".py"))
    return tuple(sorted(name for name in {str(Path(text).resolve()) for text in texts} if _is_authors(Path(name))))


def _is_authors(path: Path) -> bool:
    return path.is_file() and not any(path.is_relative_to(folder) for folder in _installed())


@cache
def _installed() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = (*(paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")), *site.getsitepackages())
    return (_OWN, *(Path(name).resolve() for name in (*named, site.getusersitepackages())))


def distrust_young_bytecode() -> None:
    """Have Python compile what was just saved: two saves in one second, of one size, would be the first one twice."""
    find_stats = SourceFileLoader.path_stats

    def path_stats(loader: SourceFileLoader, path: str) -> Mapping[str, Any]:
        stats = find_stats(loader, path)
        if stats["mtime"] > time() - _YOUNG_SECONDS:
            # Bytecode is then neither read nor written.
            raise OSError(f"{path} may be saved again within this second")
        return stats

    SourceFileLoader.path_stats = path_stats  # type: ignore[assignment, method-assign]


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file held, and by what that is known without reading it."""

    changed_at: int
    stat: tuple[int, int, int]
    digest: bytes


class SourceFiles:
    """The Python files beside the agents' files, in packages beside them, and beside the modules that they loaded.

    ``since`` is the time, in nanoseconds, at which the first agents began to load.
    """

    def __init__(self, names: Iterable[str], folder: Path, since: int) -> None:
        """``names`` are those of the setting ``agents``: files, relative to ``folder``, or modules."""
        self._roots = {(folder / name).resolve().parent for name in names if name.endswith(".py")}
        self._loaded: frozenset[Path] = frozenset()
        self._known: dict[Path, _Content] = {}
        self._since = since

    def include(self, files: Iterable[str]) -> None:
        """Look from here on also at what is beside these files, instead of those that were included before."""
        self._loaded = frozenset(Path(name).parent for name in files)

    def list_folders(self) -> frozenset[Path]:
        """Return the folders that the files are in; none is looked at with what is below it."""
        below = (folder for root in self._roots for folder in _packages(root))
        return frozenset(folder for folder in (*self._roots, *self._loaded, *below) if folder.is_dir())

    def find_changed(self) -> list[Path]:
        """Return the files that hold something else than when this was last called; a touched file does not."""
        now = time_ns()
        found = {path: content for folder in self.list_folders() for path, content in self._read(folder)}
        gone = [path for path in self._known if path not in found and not path.exists()]
        changed = [path for path, content in found.items() if self._is_changed(path, content)]
        self._known = {**{path: content for path, content in self._known.items() if path not in gone}, **found}
        self._since = now
        return sorted((*changed, *gone))

    def _is_changed(self, path: Path, content: _Content) -> bool:
        known = self._known.get(path)
        if known is None:
            return content.changed_at > self._since - _CLOCK_TICK
        return known.digest != content.digest

    def _read(self, folder: Path) -> Iterator[tuple[Path, _Content]]:
        for path in sorted(folder.glob("*.py")):
            try:
                found = path.stat()
                stat = (found.st_mtime_ns, found.st_size, found.st_ino)
                known = self._known.get(path)
                # Two saves within one tick of the clock may have the same time.
                is_old = found.st_mtime_ns < time_ns() - 2 * _CLOCK_TICK
                if known is not None and known.stat == stat and known.changed_at == found.st_ctime_ns and is_old:
                    yield path, known
                else:
                    yield path, _Content(found.st_ctime_ns, stat, hashlib.sha256(path.read_bytes()).digest())
            except OSError:
                # It is being replaced, or is no file.
                continue


def _packages(root: Path) -> Iterator[Path]:
    """Yield the folders in ``root`` that may hold modules."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)[: 10 * _MAX_SUBFOLDERS]
    except OSError:
        return
    found = (Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    named = [path for path in found if path.name not in _SKIPPED and not (path / "pyvenv.cfg").exists()]
    yield from (path for path in named[:_MAX_SUBFOLDERS] if next(path.glob("*.py"), None) is not None)
