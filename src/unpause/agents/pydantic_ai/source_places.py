"""Where authors wrote their agents and tools, and where their modules failed: files and lines."""

from __future__ import annotations

import ast
import inspect
import site
import sys
import sysconfig
import traceback
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpause.agents.findings import Place

if TYPE_CHECKING:
    from types import ModuleType

    from pydantic_ai import Agent

_MAX_FRAMES = 20
_OWN = Path(__file__).parents[2]


def place_of_agent(agent: Agent[Any, Any], module: ModuleType | None = None) -> Place | None:
    """Return where a module assigns the agent to a name: the given one, or else any that is loaded."""
    others = (each for each in list(sys.modules.values()) if each is not module)
    for each in (*([module] if module is not None else []), *others):
        file = getattr(each, "__file__", None)
        if not isinstance(file, str):
            continue
        for name, value in list(vars(each).items()):
            line = _assigned_at(file, name) if value is agent else None
            if line is not None:
                return place_at(file, line)
    return None


def place_of_function(function: object) -> Place | None:
    """Return where a function begins, its decorators included; None for what was not written in Python."""
    while not hasattr(function, "__code__"):
        inner = getattr(function, "func", None) or vars(type(function)).get("__call__")
        if inner is None or inner is function:
            return None
        function = inner
    code = inspect.unwrap(function).__code__  # type: ignore[arg-type]  # what has code can be called
    return place_at(code.co_filename, code.co_firstlineno)


def place_of_failure(error: BaseException) -> tuple[Place | None, tuple[str, ...]]:
    """Return the last line of an author's file that an exception came through, and all of them as text."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_authors(frame.filename)]
    places = [place_at(frame.filename, frame.lineno or 0) for frame in frames]
    trace = [f"{place} in {frame.name}: {frame.line}" for place, frame in zip(places, frames, strict=True)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append(place_at(error.filename, error.lineno or 0))
        trace.append(f"{places[-1]}: {(error.text or '').strip()}")
    if len(trace) > _MAX_FRAMES:
        # Endless recursion has a thousand.
        half = _MAX_FRAMES // 2
        trace[half:-half] = [f"… {len(trace) - 2 * half} more"]
    return (places[-1] if places else None), tuple(trace)


def place_at(file: str, line: int) -> Place:
    """Return the place, its path relative to the working folder where it is below that."""
    path, here = Path(file), Path.cwd()
    return Place(str(path.relative_to(here) if path.is_relative_to(here) else path), line)


@cache
def _library_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = (paths["stdlib"], paths["platstdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages())
    return (_OWN, *(Path(name).resolve() for name in named))


def _is_authors(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    return not any(path.is_relative_to(folder) for folder in _library_folders())


def _assigned_at(file: str, name: str) -> int | None:
    """Return the last line at which the file assigns something to the name, outside of functions and classes."""
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    found = None
    for node in _statements(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        named = (each for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))
        if any(each.id == name and isinstance(each.ctx, ast.Store) for each in named):
            found = node.lineno
    return found


def _statements(body: list[ast.stmt]) -> list[ast.Assign | ast.AnnAssign]:
    """Return the assignments of a module, those within its conditions, loops and other blocks included."""
    found: list[ast.Assign | ast.AnnAssign] = []
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
            inner += [each for handler in getattr(node, "handlers", ()) for each in handler.body]
            found += _statements(inner)
    return found
