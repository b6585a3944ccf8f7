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
    "pydantic_ai",
    "rich",
    "sqlalchemy.ext.asyncio",
    "watchfiles",
}

_LOAD = """
import sys
import unpause.cli.serve
from unpause.cli.loading import loading_server
with loading_server():
    import unpause.cli.server_process
print(*sys.modules)
import rich, watchfiles
"""


def test_a_server_does_not_load_what_it_does_not_use_and_what_it_left_out_can_be_loaded_later() -> None:
    loaded = subprocess.run([sys.executable, "-c", _LOAD], check=True, capture_output=True, text=True).stdout.split()
    assert UNUSED.isdisjoint(loaded)
