"""Tests of agents: a server in the test's own process, with a scripted model and time that the test moves.

    async def test_restart_needs_a_yes(unpause: Unpause) -> None:
        async with unpause.serve(agent, model=script("restart", service="nginx")) as server:
            run = await server.run("restart nginx", user="dev-1")
            run.assert_waits_for("restart", service="nginx")
            assert (await run.approve(by="ops-lead")).output == "done"

The fixture ``unpause`` is there wherever Unpause and pytest are installed. It needs no port and no key; the database is
a SQLite file in the test's temporary folder, and everything but the model is what ``unpause serve`` runs. Tests are
coroutines, so they need pytest-asyncio, or anyio's plugin with asyncio.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpause.errors import AlreadyDecided, Denied, NotADecider, RequirementMismatch
    from unpause.testing.checks import check
    from unpause.testing.errors import WrongUse
    from unpause.testing.runs import Run, WaitingCall
    from unpause.testing.scripts import Script, script
    from unpause.testing.server import Server, ServerClock, Unpause

__all__ = [
    "AlreadyDecided",
    "Denied",
    "NotADecider",
    "RequirementMismatch",
    "Run",
    "Script",
    "Server",
    "ServerClock",
    "Unpause",
    "WaitingCall",
    "WrongUse",
    "check",
    "script",
]

_MODULES = {
    "unpause.errors": ("AlreadyDecided", "Denied", "NotADecider", "RequirementMismatch"),
    "unpause.testing.checks": ("check",),
    "unpause.testing.errors": ("WrongUse",),
    "unpause.testing.runs": ("Run", "WaitingCall"),
    "unpause.testing.scripts": ("Script", "script"),
    "unpause.testing.server": ("Server", "ServerClock", "Unpause"),
}


def __getattr__(name: str) -> object:
    """Load what a test imports when it does: a module of this package alone needs no agent framework."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
