"""What few processes need, or none before it has started: made when it is used first.

Modules are imported then::

    if TYPE_CHECKING:
        from unpause.agents import hosting
    else:
        hosting = LazyModule("unpause.agents.hosting")

So mypy knows what is in them, and import-linter which layers depend on each other.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pydantic import ConfigDict

# For pydantic's models and adapters. All of them together take a twentieth of a server's start.
BUILT_LATE: Final[ConfigDict] = {"defer_build": True}


class LazyModule:
    """Stands for a module; its attributes are the module's, which is imported with the first look at one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        return getattr(import_module(self._name), name)
