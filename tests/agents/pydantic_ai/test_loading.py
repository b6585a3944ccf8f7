"""How the names in the settings become agents, and what is said of names that do not."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unpause.agents.pydantic_ai.loading import load_agents
from unpause.errors import InvalidSetting

TWO = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from dataclasses import dataclass

@dataclass
class Kept:
    value: int = 1

first = Agent(TestModel(), name="first")
second = Agent(TestModel(), name="second")
again = first
nameless = Agent(TestModel())
"""


@pytest.fixture(autouse=True)
def _clean_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in an empty folder, and forget what was imported from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _write(path: Path, text: str = TWO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _names(*settings: str) -> list[str | None]:
    return [found.agent.name for found in load_agents(settings) if found.agent.name]


def test_every_named_agent_of_a_file_is_found_once(tmp_path: Path) -> None:
    assert _names(str(_write(tmp_path / "mine.py"))) == ["first", "second"]


def test_a_file_is_found_from_the_folder_the_server_was_started_in(tmp_path: Path) -> None:
    _write(tmp_path / "sub" / "mine.py")
    assert _names("sub/mine.py") == ["first", "second"]


def test_a_module_is_found_by_its_name_in_the_working_folder(tmp_path: Path) -> None:
    _write(tmp_path / "mypackage" / "__init__.py", "")
    _write(tmp_path / "mypackage" / "agents_of_mine.py")
    assert _names("mypackage.agents_of_mine") == ["first", "second"]


def test_a_file_may_import_its_neighbours(tmp_path: Path) -> None:
    _write(tmp_path / "sub" / "neighbour_of_mine.py")
    _write(tmp_path / "sub" / "mine.py", "from neighbour_of_mine import second")
    assert _names("sub/mine.py") == ["second"]


def test_several_names_are_loaded_in_order_and_an_agent_of_both_once(tmp_path: Path) -> None:
    _write(tmp_path / "module_of_mine.py")
    third = "from pydantic_ai import Agent\nfrom module_of_mine import first\nthird = Agent('test', name='third')"
    _write(tmp_path / "third.py", third)
    assert _names("module_of_mine", "third.py") == ["first", "second", "third"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such_module_here", "there is no module 'no_such_module_here'"),
        ("no_such_package.agents", "there is no module 'no_such_package.agents'"),
        ("no_such_file.py", "there is no file no_such_file.py"),
        ("folder", "folder is a folder: name a Python file in it"),
        ("broken:agent", "broken:agent is no module: name only broken, all of whose agents are served"),
        ("package", "package has no pydantic_ai.Agent with a name"),
        ("folder.py", "there is no file folder.py"),
        ("json", "json has no pydantic_ai.Agent with a name"),
        ("empty.py", "empty.py has no pydantic_ai.Agent with a name"),
        ("nameless.py", "nameless.py has no pydantic_ai.Agent with a name"),
        ("broken.py", "broken.py failed to load: SyntaxError"),
        ("failing.py", "failing.py failed to load: ZeroDivisionError"),
        ("needing.py", "needing.py failed to load: ModuleNotFoundError: No module named 'what_it_needs'"),
        ("needing", "needing needs the module 'what_it_needs', which is not installed"),
        ("notes.txt", "notes.txt is not a Python file"),
        ("", ""),
        (".relative", "there is no module '.relative', and no such file"),
        ("with space", "there is no module 'with space'"),
        ("a..b", "there is no module 'a..b', and no such file"),
    ],
)
def test_a_wrong_name_is_told_clearly(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "package").mkdir()
    _write(tmp_path / "package" / "__init__.py", "")
    _write(tmp_path / "empty.py", "")
    _write(tmp_path / "nameless.py", "from pydantic_ai import Agent\nagent = Agent('test')")
    _write(tmp_path / "broken.py", "def")
    _write(tmp_path / "failing.py", "1 / 0")
    _write(tmp_path / "needing.py", "import what_it_needs")
    _write(tmp_path / "notes.txt", "hello")
    with pytest.raises(InvalidSetting) as raised:
        load_agents([name])
    assert raised.value.message.startswith("agents: ")
    assert words in raised.value.message


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit", "GeneratorExit", "asyncio.CancelledError"])
def test_whatever_a_module_raises_it_is_named_as_the_one_that_failed(tmp_path: Path, error: str) -> None:
    file = _write(tmp_path / "raising.py", f"import asyncio\nraise {error}('why')\n")
    for name in (str(file), "raising"):
        with pytest.raises(InvalidSetting, match=f"{name} failed to load: .*{error.rpartition('.')[2]}"):
            load_agents([name])


def test_ctrl_c_while_a_module_loads_ends_the_command(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    file = _write(tmp_path / "slow.py", "import signal\nsignal.raise_signal(signal.SIGINT)\n")
    with pytest.raises(KeyboardInterrupt):
        load_agents([str(file)])
    assert signal.getsignal(signal.SIGINT) is handler
