"""Finds the agents in the modules and files that the settings name."""

from __future__ import annotations

import importlib
import importlib.util
import signal
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent

from unpause.agents.containment import describe_error
from unpause.agents.models import describe_unset_variable
from unpause.agents.pydantic_ai.source_places import place_of_agent, place_of_failure
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import FrameType, ModuleType

    from unpause.agents.findings import Place


class LoadingFailed(InvalidSetting):
    """A module that cannot be loaded: where its author's code failed, and the author's frames of the exception."""

    def __init__(self, message: str, place: Place | None = None, trace: tuple[str, ...] = ()) -> None:
        super().__init__(f"agents: {message}" + (f" ({place})" if place is not None else ""))
        self.problem = message
        self.place = place
        self.trace = trace


@dataclass(frozen=True, slots=True)
class FoundAgent:
    """An agent, the module in whose namespace it is, and whether it is served: only with a name."""

    agent: Agent[Any, Any]
    module: ModuleType | None = None

    @property
    def place(self) -> Place | None:
        """Where its author assigned it to a name."""
        return place_of_agent(self.agent, self.module)


def load_agents(names: Iterable[str]) -> list[FoundAgent]:
    """Return every agent in the namespaces of the modules or files, each once, in order; also those without a name.

    Raises LoadingFailed for a module that is not there, does not load, or has no named agent.
    """
    found: dict[int, FoundAgent] = {}
    for name in names:
        try:
            module = _load(name)
        except OSError as error:
            # Such as a name that is too long for a file.
            raise LoadingFailed(f"{name} cannot be read: {error.strerror}") from None
        agents = [value for value in vars(module).values() if isinstance(value, Agent)]
        if not any(agent.name for agent in agents):
            raise _without_agent(name, module, agents)
        for agent in agents:
            found.setdefault(id(agent), FoundAgent(agent, module))
    return list(found.values())


def _without_agent(name: str, module: ModuleType, agents: Sequence[Agent[Any, Any]]) -> LoadingFailed:
    text, place = "in its namespace: assign one to a variable of the module", None
    if agents:
        text, place = "which is its id: Agent(..., name='…')", FoundAgent(agents[0], module).place
    return LoadingFailed(f"{name} has no pydantic_ai.Agent with a name{',' if agents else ''} {text}", place)


def _load(name: str) -> ModuleType:
    path = Path(name)
    if path.suffix == ".py" or path.is_file():
        return _load_file(path)
    if not all(name.split(".")) or ":" in name or (path.is_dir() and not (path / "__init__.py").is_file()):
        raise LoadingFailed(_describe_no_module(name))
    # A console script does not look into the folder it was started in.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    with _reporting_failures(name, _failed_import):
        return importlib.import_module(name)


def _describe_no_module(name: str) -> str:
    """Return why a name that cannot be one of a module is none of a file either."""
    if name and Path(name).is_dir():
        return f"{name} is a folder: name a Python file in it"
    module, _, attribute = name.partition(":")
    if attribute:
        return f"{name} is no module: name only {module}, all of whose agents are served"
    return f"there is no module {name!r}, and no such file"


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadingFailed(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"unpause_agents_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise LoadingFailed(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    with _reporting_failures(str(path), _failed):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _reporting_failures(name: str, describe: Callable[[str, BaseException], LoadingFailed]) -> Iterator[None]:
    """Raise LoadingFailed for whatever an author's module raises in the block; only Ctrl-C passes."""
    handler, interrupts = signal.getsignal(signal.SIGINT), list[int]()

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        if callable(handler):
            handler(number, frame)

    # Signals come to the main thread only, and an operator may have them ignored.
    is_noting = threading.current_thread() is threading.main_thread() and callable(handler)
    if is_noting:
        signal.signal(signal.SIGINT, note)
    try:
        yield
    except BaseException as error:
        # The boundary around an author's module, which may raise anything, also in sys.exit().
        if interrupts and isinstance(error, KeyboardInterrupt):
            raise
        raise describe(name, error) from error
    finally:
        # The module may have a handler of its own.
        if is_noting and signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, handler)


def _failed_import(name: str, error: BaseException) -> LoadingFailed:
    if not isinstance(error, ModuleNotFoundError):
        return _failed(name, error)
    missing = error.name or name
    if name == missing or name.startswith(f"{missing}."):
        return LoadingFailed(f"there is no module {name!r} (looked in {Path.cwd()} and the installed packages)")
    return LoadingFailed(f"{name} needs the module {missing!r}, which is not installed", *place_of_failure(error))


def _failed(name: str, error: BaseException) -> LoadingFailed:
    # Its text repeats the place.
    text = error.msg if isinstance(error, SyntaxError) else describe_error(error)
    kind = type(error).__name__
    message = describe_unset_variable(text) or (text if text.startswith(kind) else f"{kind}: {text}")
    return LoadingFailed(f"{name} failed to load: {message}", *place_of_failure(error))
