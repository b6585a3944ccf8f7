"""Which files agents are made of, and which of them have other content than at the last look."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from time import time_ns

import pytest

from unpause.agents.process.sources import SourceFiles, distrust_young_bytecode, loaded_files

BEFORE = 3600 * 10**9


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("agents.py", "tools.py", "shop/__init__.py", "shop/prices.py", "venv/pyvenv.cfg", "venv/other.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"# {name}\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def sources(project: Path) -> SourceFiles:
    found = SourceFiles(["agents.py", "a_module"], project, time_ns() + BEFORE)
    assert found.find_changed() == []
    return found


def test_files_beside_the_agents_and_in_packages_beside_them_are_looked_at(sources: SourceFiles, project: Path) -> None:
    assert sources.list_folders() == {project, project / "shop"}
    for name in ("agents.py", "tools.py", "shop/prices.py"):
        with (project / name).open("a", encoding="utf-8") as file:
            file.write("1\n")
        assert sources.find_changed() == [project / name]
    (project / "notes.txt").write_text("not code", encoding="utf-8")
    (project / "venv/other.py").write_text("not the author's", encoding="utf-8")
    assert sources.find_changed() == []


def test_a_file_that_is_touched_or_saved_with_the_same_content_has_not_changed(
    sources: SourceFiles, project: Path
) -> None:
    file = project / "agents.py"
    os.utime(file)
    assert sources.find_changed() == []
    file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    assert sources.find_changed() == []


def test_a_file_that_another_is_renamed_over_has_changed_though_its_time_and_size_are_the_same(
    sources: SourceFiles, project: Path
) -> None:
    file, other = project / "agents.py", project / ".agents.py.swp"
    other.write_text(file.read_text(encoding="utf-8").upper(), encoding="utf-8")
    shutil.copystat(file, other)
    other.rename(file)
    assert sources.find_changed() == [file]


def test_a_file_that_is_deleted_has_changed_once_and_again_when_it_is_back(sources: SourceFiles, project: Path) -> None:
    file = project / "tools.py"
    file.unlink()
    assert sources.find_changed() == [file]
    assert sources.find_changed() == []
    file.write_text("back = True\n", encoding="utf-8")
    assert sources.find_changed() == [file]


def test_a_new_file_and_one_in_a_new_package_have_changed(sources: SourceFiles, project: Path) -> None:
    (project / "new").mkdir()
    new = [project / "new.py", project / "new/__init__.py"]
    for file in new:
        file.write_text("", encoding="utf-8")
    assert sources.find_changed() == sorted(new)


def test_a_file_that_was_saved_since_the_agents_began_to_load_has_changed(project: Path) -> None:
    assert project / "agents.py" in SourceFiles(["agents.py"], project, time_ns() - BEFORE).find_changed()


def test_files_beside_modules_that_were_loaded_elsewhere_are_looked_at_from_then_on(
    sources: SourceFiles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    module = tmp_path_factory.mktemp("library") / "helper.py"
    module.write_text("one = 1\n", encoding="utf-8")
    os.utime(module, ns=(0, 0))
    sources.include([str(module)])
    sources.find_changed()
    module.write_text("one = 2\n", encoding="utf-8")
    assert sources.find_changed() == [module]


def test_a_process_names_the_files_of_its_author_and_those_that_failed_to_load(project: Path) -> None:
    (project / "agents.py").write_text("import tools, json, pydantic\nimport shop.broken\n", encoding="utf-8")
    (project / "shop/broken.py").write_text("price = (\n", encoding="utf-8")
    program = (
        "from unpause.agents.process.sources import loaded_files\n"
        "try:\n    import agents\nexcept SyntaxError as error:\n    print(*loaded_files(error))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True)
    names = ("agents.py", "shop/__init__.py", "shop/broken.py", "tools.py")
    assert done.stdout.split() == [str(project / name) for name in names]


def test_what_is_installed_and_what_is_ours_is_none_of_an_authors_files() -> None:
    for file in loaded_files():
        assert "site-packages" not in file
        assert "/src/unpause/" not in file


def test_two_saves_of_one_size_in_one_second_are_two_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(SourceFileLoader, "path_stats", SourceFileLoader.path_stats)
    distrust_young_bytecode()
    file, now = tmp_path / "young.py", time_ns()
    for text in ("one", "two"):
        file.write_text(f"text = {text!r}\n", encoding="utf-8")
        os.utime(file, ns=(now, now))
        names: dict[str, str] = {}
        exec(SourceFileLoader("young", str(file)).get_code("young"), names)  # type: ignore[arg-type]  # noqa: S102
        assert names["text"] == text
