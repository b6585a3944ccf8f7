"""The plugin in an environment of somebody else: light until it is used, beside every plugin for coroutines."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.client_environments import ROOT

HEAVY = ("pydantic", "pydantic_ai", "sqlalchemy", "alembic", "structlog", "httpx", "asyncio")
USES = """
import logging
import pytest
from pydantic_ai import Agent
from unpause.testing import Unpause, check, script

agent = Agent(name="ops")

@agent.tool_plain(requires_approval=True)
def restart(service: str) -> str:
    return service

@pytest.fixture
def anyio_backend(): return "asyncio"

@pytest.fixture
async def {fixture}(unpause: Unpause):
    async with unpause.serve(agent, model=script("restart", service="nginx")) as server:
        yield server

@pytest.mark.{mark}
async def test_it(unpause: Unpause, {fixture}) -> None:
    async with unpause.serve(agent, model=script("restart", service="nginx")) as server:
        assert (await (await server.run()).approve()).output == "done"
    run = await {fixture}.run()
    async with {fixture}.crash_during("restart"):
        await run.approve()
    run.assert_in_doubt("restart")
"""


def test_the_plugin_is_an_entry_point_and_its_name_is_that_of_its_module() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, module),) = project["entry-points"]["pytest11"].items()
    assert name == module
    assert hasattr(import_module(module), "unpause")


def test_loading_the_plugin_loads_nothing_else() -> None:
    code = f"import sys, unpause.pytest_plugin, unpause.testing; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.full
def test_it_works_with_strict_asyncio_and_with_anyio_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "test_strict.py").write_text(
        USES.format(mark="asyncio", fixture="shared")
        .replace("@pytest.fixture\nasync", "@pytest_asyncio.fixture\nasync")
        .replace("import pytest\n", "import pytest\nimport pytest_asyncio\n"),
        encoding="utf-8",
    )
    (tmp_path / "test_anyio.py").write_text(USES.format(mark="anyio", fixture="shared"), encoding="utf-8")
    settings = ("asyncio_mode=strict", "asyncio_default_fixture_loop_scope=function")
    options = ("-q", "-W", "error", "-p", "unpause.pytest_plugin", *(f"--override-ini={each}" for each in settings))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert "warning" not in done.stdout
