"""A server loads what it uses: its memory and its start depend on it."""

from __future__ import annotations

import subprocess
import sys

# What only a command, an agent's process or a setting needs that is off.
UNUSED = {
    "alembic",
    "cryptography",
    "email_validator",
    "httpx",
    "jinja2",
    "pydantic.v1",
    "pydantic_ai",
    "rich",
    "sqlalchemy.ext.asyncio",
    "watchfiles",
}

# What answers requests, and is loaded when the port is open.
LATE = {"fastapi", "sse_starlette", "unpause.api.routes"}

_LOAD = """
import sys
import unpause.cli.serve
from unpause.cli.loading import loading_routes, loading_server
with loading_server():
    import unpause.cli.server_process
if sys.argv[1:]:
    with loading_routes(beside_agents=sys.argv[1] == "in-process"):
        import unpause.api.app
print(*sys.modules)
import email_validator, pydantic.v1, rich, watchfiles
"""

_COLLECT = """
import gc
from unpause.cli.loading import without_collections
with without_collections():
    loaded = [[]]
later = [[]]
looked_at = gc.get_objects()
print(gc.isenabled(), *(any(each is found for each in looked_at) for found in (loaded, later)))
"""


def test_a_server_does_not_load_what_it_does_not_use_and_what_it_left_out_can_be_loaded_later() -> None:
    early, complete = _printed_by(_LOAD), _printed_by(_LOAD, "processes")
    assert (UNUSED | LATE).isdisjoint(early)
    assert UNUSED.isdisjoint(complete)
    assert LATE.issubset(complete)


def test_nothing_is_left_out_while_agents_in_the_same_process_may_load_it() -> None:
    assert {"email_validator", "pydantic.v1"}.issubset(_printed_by(_LOAD, "in-process"))


def test_collections_of_garbage_look_at_what_comes_after_loading_and_never_at_what_was_loaded() -> None:
    assert _printed_by(_COLLECT) == ["True", "False", "True"]


def _printed_by(program: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
