"""Loads agents anew whenever one of their files is saved: for development."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from watchfiles import Change, awatch

if TYPE_CHECKING:
    from collections.abc import Collection

    from unpause.agents.process.sources import SourceFiles

_log = structlog.get_logger(__name__)

# Saves that are no further apart belong together.
_QUIET_MILLISECONDS: Final = 100
# The files are looked at so often also where no notification comes, as from a network drive.
_LOOK_MILLISECONDS: Final = 1000
# A load that takes longer than this is given up when there is a newer version to load.
_PATIENCE_SECONDS: Final = 5.0


class Generations(Protocol):
    """What loads the agents."""

    @property
    def source_files(self) -> Collection[str]:
        """The files of the modules that were loaded last, also by a process that refused them."""
        ...

    @property
    def reads_files(self) -> bool:
        """Whether the reload that is under way has begun to read files; a save before that is a part of it."""
        ...

    async def reload(self, changed: Collection[str] = ()) -> bool:
        """Load the agents anew, and serve them; False where that fails, or is abandoned."""
        ...

    def abandon_reload(self) -> None:
        """End the processes that are loading the agents anew: their files have changed again."""
        ...


class ReloadOnChange:
    """Watches the files of agents, and has them loaded anew when one has other content.

    Notifications of the system only say when to look: what counts is the content, compared with that before the load.
    So a file that is saved while agents load is loaded again, and one that is only touched is not.
    """

    def __init__(self, sources: SourceFiles, generations: Generations) -> None:
        self._sources = sources
        self._generations = generations
        self._changed: set[str] = set()
        self._reload: asyncio.Task[None] | None = None
        self._folders: frozenset[Path] = frozenset()
        # Other folders are to be watched than these.
        self._has_moved = asyncio.Event()

    async def watch(self) -> None:
        """Watch until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._look(tasks)
                    await self._wait(tasks)
        finally:
            self._generations.abandon_reload()

    async def _wait(self, tasks: asyncio.TaskGroup) -> None:
        """Look at the files when something happens in their folders; return when others are to be watched."""
        self._has_moved.clear()
        self._folders = await asyncio.to_thread(self._sources.list_folders)
        try:
            watching = awatch(
                *self._folders,
                watch_filter=_may_be_code,
                step=_QUIET_MILLISECONDS,
                stop_event=self._has_moved,
                rust_timeout=_LOOK_MILLISECONDS,
                yield_on_timeout=True,
                recursive=False,
            )
            async with aclosing(watching):
                async for _ in watching:
                    await self._look(tasks)
                    await self._compare_folders()
        except (OSError, RuntimeError) as error:
            # A folder has just gone, or the system watches no more: the files are looked at all the same.
            _log.debug("files of agents are not watched", reason=str(error))
            await asyncio.sleep(_LOOK_MILLISECONDS / 1000)

    async def _look(self, tasks: asyncio.TaskGroup) -> None:
        self._sources.include(self._generations.source_files)
        changed = await asyncio.to_thread(self._sources.find_changed)
        if not changed:
            return
        names = [_shown(path) for path in changed]
        if self._reload is not None and not (self._reload.done() or self._generations.reads_files):
            self._changed.update(names)
            return
        if self._reload is not None:
            await asyncio.wait((self._reload,), timeout=_PATIENCE_SECONDS)
            self._generations.abandon_reload()
            await self._reload
        # Not before: a load that succeeds has loaded what was noted by its end.
        self._changed.update(names)
        self._reload = tasks.create_task(self._load(), name="reload of changed agents")

    async def _load(self) -> None:
        if await self._generations.reload(self._changed):
            self._changed.clear()
        self._sources.include(self._generations.source_files)
        await self._compare_folders()

    async def _compare_folders(self) -> None:
        if await asyncio.to_thread(self._sources.list_folders) != self._folders:
            self._has_moved.set()


def _may_be_code(change: Change, path: str) -> bool:
    """Whether it is a Python file, or a folder that is new and may get some."""
    return path.endswith(".py") or (change is Change.added and Path(path).is_dir())


def _shown(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
