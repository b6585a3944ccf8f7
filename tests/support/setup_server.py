"""A server that prepares repositories with a scripted model, spoken to through both APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.caller import body_of
from tests.support.planning import REPOSITORY, PlanningModel
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject

SETUP = "/v1/organizations/1/setup-commands/generate"
AGENT = "setup-commands"


@dataclass(frozen=True)
class SetupServer(Server):
    """One server, whose default agent has the scripted model."""

    async def generate(self, **body: object) -> httpx.Response:
        """Ask for a run that prepares the repository."""
        return await self.post(SETUP, {"repo_id": REPOSITORY, **body})

    async def prepared(self, **body: object) -> JsonObject:
        """Start such a run and return it as Codegen shows it once it paused or ended."""
        return await self.settled_by_codegen(body_of(await self.generate(**body))["agent_run_id"])

    async def resumed(self, run: JsonObject, prompt: str, **keys: Any) -> JsonObject:  # noqa: ANN401 - any key
        """Resume the run through Codegen's API and return it once it paused or ended again."""
        body_of(await self.resume(run["id"], prompt, **keys))
        return await self.read_by_codegen(run["id"])

    async def as_agno(self, run: JsonObject) -> JsonObject:
        """Return the run as AgentOS shows it."""
        return await self.read({"agent_id": AGENT, "run_id": run["web_url"].rpartition("/")[2]})

    async def answered(self, run: JsonObject, **answer: object) -> httpx.Response:
        """Continue the run through AgentOS's API with this answer to the one thing it waits for."""
        shown = await self.as_agno(run)
        (expected,) = [item for item in shown["requirements"] if is_open(item)]
        return await self.post_continue(shown, [{**expected["tool_execution"], **answer}])


def is_open(requirement: JsonObject) -> bool:
    """Whether a requirement, as AgentOS shows it, waits for an answer."""
    tool = requirement["tool_execution"]
    return bool(tool["requires_confirmation"] or tool["external_execution_required"])


def commands_of(shown: JsonObject) -> list[tuple[str, bool | None]]:
    """Return the commands of a run, as AgentOS shows it, with whether each went wrong; None for one that never ran."""
    tools = [tool for tool in shown["tools"] if tool["tool_name"] == "run_command"]
    return [(tool["tool_args"]["command"], tool["tool_call_error"]) for tool in tools]


@asynccontextmanager
async def served_setup(folder: Path, model: PlanningModel, **changes: Any) -> AsyncIterator[SetupServer]:  # noqa: ANN401
    """Serve during the block; the checkouts are in ``folder/checkouts``."""
    settings = {"workspace_root": folder / "checkouts", **changes}
    async with served(folder, model.agent(), **settings) as server:
        yield SetupServer(**vars(server))


def note(number: str) -> str:
    """Return a command that leaves a trace each time it runs."""
    return f"echo {number} >> trace; echo did {number}"


# The third fails.
FIVE = [note("1"), note("2"), "echo 3 >> trace; echo no such target >&2; exit 7", note("4"), note("5")]


def traces(checkout: Path) -> list[str]:
    """Return what the commands did, in order."""
    file = checkout / "trace"
    return file.read_text(encoding="utf-8").split() if file.exists() else []


async def failed_at_three(server: SetupServer, checkout: Path) -> JsonObject:
    """Start the run of FIVE and return it once it waits for a correction of its third command."""
    run = await server.prepared()
    assert run["status"] == "PAUSED"
    assert traces(checkout) == ["1", "2", "3"]
    return run
