"""Modules that few processes need, imported when something of them is used first.

    if TYPE_CHECKING:
        from unpause.agents import hosting
    else:
        hosting = LazyModule("unpause.agents.hosting")

So mypy knows what is in them, and import-linter which layers depend on each other.
"""

from __future__ import annotations

from importlib import import_module


class LazyModule:
    """Stands for a module; its attributes are the module's, which is imported with the first look at one."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> object:
        return getattr(import_module(self._name), name)
