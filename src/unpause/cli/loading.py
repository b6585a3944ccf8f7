"""Loads modules faster, and fewer of them."""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Optional modules of libraries, which no server uses: structlog's tracebacks in color, uvicorn's own reload, FastAPI's
# check of mail addresses, and what it has for pydantic's first version. They would take 7 MB, and a tenth of the time
# that a server takes to load.
_UNUSED: Final = ("rich", "watchfiles")
_UNUSED_BY_ROUTES: Final = ("email_validator", "pydantic.v1")


@contextmanager
def without_collections() -> Iterator[None]:
    """Collect no garbage during the block, and never look at what it loads: next to nothing of that is garbage.

    A server starts a fifth faster: each look at its modules takes a tenth of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        # Before the next new object, at which a collection would begin with all that was loaded.
        gc.freeze()
        gc.enable()


@contextmanager
def loading_server() -> Iterator[None]:
    """Load a server's modules in the block, but not what libraries only load in case that it is used."""
    with _leaving_out(_UNUSED), without_collections():
        yield


@contextmanager
def loading_routes(*, beside_agents: bool) -> Iterator[None]:
    """Do the same for the routes; ``beside_agents`` is whether agents in this process may load modules meanwhile."""
    with _leaving_out(() if beside_agents else _UNUSED_BY_ROUTES), without_collections():
        yield


@contextmanager
def _leaving_out(unused: Iterable[str]) -> Iterator[None]:
    # To Python, a module that is None here is not installed. Afterwards it is again: what agents load may need it.
    modules = cast("dict[str, Any]", sys.modules)
    left_out = [name for name in unused if name not in modules]
    modules.update(dict.fromkeys(left_out))
    try:
        yield
    finally:
        for name in left_out:
            del modules[name]
