"""Agents with scripted models on a whole server, for tests of the Pydantic AI driver."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic_ai import Agent

from tests.contract.replaying import read_events
from tests.support.caller import path_of
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject


class DrivenServer(Server):
    """A server with the agent ``agent``."""

    async def run(self, message: str = "go", agent: str = "agent", **fields: str) -> JsonObject:
        """Create a run and return it once it pauses or ends."""
        return await self.create(message, agent=agent, **fields)

    async def answer_with(self, run: JsonObject, *tools: JsonObject) -> JsonObject:
        """Continue the run with these tools and return it once it pauses or ends."""
        return await self.continued(run, list(tools))

    async def confirm(self, run: JsonObject) -> JsonObject:
        """Confirm everything that is open."""
        return await self.answer_with(run, *(yes(tool) for tool in open_tools(run)))

    async def events(self, run: JsonObject | None = None, *tools: JsonObject, message: str = "go") -> list[JsonObject]:
        """Return the events of a new run, or of continuing this one."""
        if run is None:
            response = await self.client.post("/agents/agent/runs", data={"message": message})
        else:
            response = await self.client.post(f"{path_of(run)}/continue", data={"tools": json.dumps(tools)})
        assert response.status_code == 200, response.text
        return read_events(response.text)

    async def resume(
        self, run: JsonObject | int, prompt: str = "", key: str | None = None, **keys: object
    ) -> httpx.Response:
        """Resume the run through Codegen's API and wait until it pauses or ends."""
        response = await super().resume(run, prompt, key, **keys)
        assert (response.status_code, response.json()["status"]) == (200, "ACTIVE"), response.text
        return response

    async def resumed(self, run: JsonObject, prompt: str, **keys: Any) -> JsonObject:  # noqa: ANN401 - any key
        """Resume the run through Codegen's API and return it once it pauses or ends."""
        await self.resume(run, prompt, **keys)
        return await self.read(run)


@asynccontextmanager
async def driving(
    folder: Path,
    *agents: Agent[Any, Any],
    **changes: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[DrivenServer]:
    """Serve these agents on a database in ``folder``; the same folder again is a restart."""
    async with served(folder, *agents, **changes) as server:
        yield DrivenServer(**vars(server))


def open_tools(run: JsonObject) -> list[JsonObject]:
    """Return the tools that wait for a confirmation."""
    return [tool for tool in run["tools"] if tool["requires_confirmation"] and tool["confirmed"] is None]


def yes(tool: JsonObject) -> JsonObject:
    """Return the tool, confirmed."""
    return {**tool, "confirmed": True}


def no(tool: JsonObject, note: str = "no") -> JsonObject:
    """Return the tool, rejected with a note."""
    return {**tool, "confirmed": False, "confirmation_note": note}


def names(events: Sequence[JsonObject]) -> list[str]:
    """Return the names of the events, the same name in a row once."""
    found: list[str] = []
    for event in events:
        if not found or event["event"] != found[-1]:
            found.append(event["event"])
    return found


def said_by_tools(run: JsonObject) -> list[tuple[str, Any]]:
    """Return the name and text of each message of a tool in the transcript."""
    return [(message["tool_name"], message["content"]) for message in run["messages"] if message["role"] == "tool"]
