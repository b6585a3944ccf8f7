"""When agents are loaded anew: after a save of their files, once for several, and again for a save meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from time import time_ns

import pytest

from unpause.agents.process import reloading
from unpause.agents.process.reloading import ReloadOnChange
from unpause.agents.process.sources import SourceFiles

DEADLINE = 30


class Generations:
    """Loads nothing: notes what it should load, and how that ends is the test's decision."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.source_files: Collection[str] = ()
        self.changed: Collection[str] = ()
        self.loads: list[list[str]] = []
        self.contents: list[str] = []
        self.succeeds = True
        self.is_slow = False
        self.is_reading = True
        self.is_asked = asyncio.Event()
        self.abandoned = 0
        self._has_begun = asyncio.Event()
        self._may_end = asyncio.Event()

    @property
    def reads_files(self) -> bool:
        self.is_asked.set()
        return self.is_reading

    async def reload(self, changed: Collection[str] = ()) -> bool:
        self.changed = changed
        self.loads.append([Path(file).name for file in sorted(changed)])
        self.contents.append((self.folder / "agents.py").read_text(encoding="utf-8"))
        self._has_begun.set()
        if self.is_slow:
            await self._may_end.wait()
            self._may_end.clear()
        return self.succeeds

    def abandon_reload(self) -> None:
        self.abandoned += 1
        self._may_end.set()

    def end_load(self) -> None:
        self._may_end.set()

    async def wait_for_load(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._has_begun.wait()
        self._has_begun.clear()


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Generations]:
    (folder / "agents.py").write_text("1", encoding="utf-8")
    sources = SourceFiles(["agents.py"], folder, time_ns() + 10**9)
    sources.find_changed()
    generations = Generations(folder)
    task = asyncio.create_task(ReloadOnChange(sources, generations).watch())
    try:
        yield generations
    finally:
        task.cancel()
        await asyncio.wait((task,))


def save(folder: Path, text: str, name: str = "agents.py") -> None:
    (folder / name).write_text(text, encoding="utf-8")


async def test_saves_at_once_are_one_load_of_the_last_content(tmp_path: Path) -> None:
    async with watching(tmp_path) as generations:
        for number in range(2, 20):
            save(tmp_path, str(number))
            save(tmp_path, str(number), "tools.py")
        await generations.wait_for_load()
        assert generations.loads == [["agents.py", "tools.py"]]
        assert generations.contents == ["19"]


async def test_what_is_saved_during_a_load_is_loaded_after_it(tmp_path: Path) -> None:
    async with watching(tmp_path) as generations:
        generations.is_slow = True
        save(tmp_path, "2")
        await generations.wait_for_load()
        save(tmp_path, "3")
        generations.end_load()
        await generations.wait_for_load()
        assert generations.contents == ["2", "3"]
        generations.end_load()


async def test_what_is_saved_before_a_load_reads_files_is_a_part_of_it(tmp_path: Path) -> None:
    async with watching(tmp_path) as generations:
        generations.is_slow, generations.is_reading = True, False
        save(tmp_path, "2")
        await generations.wait_for_load()
        save(tmp_path, "3", "tools.py")
        async with asyncio.timeout(DEADLINE):
            await generations.is_asked.wait()
        assert [Path(file).name for file in sorted(generations.changed)] == ["agents.py", "tools.py"]
        generations.is_reading = True
        save(tmp_path, "4")
        generations.end_load()
        await generations.wait_for_load()
        assert generations.loads == [["agents.py"], ["agents.py"]]
        generations.end_load()


async def test_a_load_that_does_not_end_is_abandoned_for_a_newer_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "_PATIENCE_SECONDS", 0.01)
    async with watching(tmp_path) as generations:
        generations.is_slow = True
        save(tmp_path, "while True: pass")
        await generations.wait_for_load()
        generations.succeeds = False
        save(tmp_path, "3")
        await generations.wait_for_load()
        assert generations.abandoned == 1
        assert generations.contents[-1] == "3"


async def test_a_load_names_what_was_saved_while_the_one_before_it_succeeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "_PATIENCE_SECONDS", 0.01)
    async with watching(tmp_path) as generations:
        generations.is_slow = True
        save(tmp_path, "2")
        await generations.wait_for_load()
        save(tmp_path, "1", "tools.py")
        await generations.wait_for_load()
        assert generations.loads == [["agents.py"], ["tools.py"]]


async def test_a_load_that_failed_is_tried_again_after_the_next_save_only(tmp_path: Path) -> None:
    async with watching(tmp_path) as generations:
        generations.succeeds = False
        save(tmp_path, "(")
        await generations.wait_for_load()
        save(tmp_path, "2", "tools.py")
        await generations.wait_for_load()
        # The first one has not been loaded yet.
        assert generations.loads == [["agents.py"], ["agents.py", "tools.py"]]


async def test_files_in_folders_that_the_agents_have_loaded_are_watched(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    library = tmp_path_factory.mktemp("library")
    async with watching(tmp_path) as generations:
        generations.source_files = [str(library / "helper.py")]
        save(tmp_path, "2")
        await generations.wait_for_load()
        save(library, "new", "helper.py")
        await generations.wait_for_load()
        assert generations.loads[-1] == ["helper.py"]


async def test_files_are_looked_at_where_the_system_does_not_notify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(*_: object, **__: object) -> None:
        raise OSError(28, "OS file watch limit reached")

    monkeypatch.setattr(reloading, "awatch", unable)
    monkeypatch.setattr(reloading, "_LOOK_MILLISECONDS", 10)
    async with watching(tmp_path) as generations:
        save(tmp_path, "2")
        await generations.wait_for_load()
        assert generations.loads == [["agents.py"]]
