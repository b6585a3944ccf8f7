"""Finds the agents in the modules and files that the settings name."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent

from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType


def load_agents(names: Iterable[str]) -> list[Agent[Any, Any]]:
    """Return every named agent in the namespaces of the modules or files, each once, in order.

    Raises InvalidSetting, with the reason, for a module that is not there, does not load, or has no named agent.
    """
    found: dict[int, Agent[Any, Any]] = {}
    for name in names:
        module = _load(name)
        agents = [value for value in vars(module).values() if isinstance(value, Agent) and value.name]
        if not agents:
            raise InvalidSetting(f"agents: {name} has no pydantic_ai.Agent with a name in its namespace")
        found.update({id(agent): agent for agent in agents})
    return list(found.values())


def _load(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix == ".py" or path.exists():
        return _load_file(path)
    # A console script does not look into the folder it was started in.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise InvalidSetting(
                f"agents: there is no module {name!r} (looked in {here} and the installed packages)"
            ) from None
        raise InvalidSetting(f"agents: {name} needs the module {missing!r}, which is not installed") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the boundary around an author's module, which may call sys.exit()
        raise InvalidSetting(f"agents: {name} failed to load: {type(error).__name__}: {error}") from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InvalidSetting(f"agents: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"unpause_agents_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidSetting(f"agents: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the boundary around an author's file, which may call sys.exit()
        raise InvalidSetting(f"agents: {path} failed to load: {type(error).__name__}: {error}") from error
    return module
