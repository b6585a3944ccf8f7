"""One agent with a scripted model on a whole server, for tests of the Pydantic AI driver."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx
from pydantic_ai import Agent

from tests.contract.replaying import read_events
from tests.support.serving import serving
from unpause.bootstrap import Application
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.runs import RunRef

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Driving:
    """A server with agents, spoken to through AgentOS's API."""

    client: httpx.AsyncClient
    application: Application

    async def run(self, message: str = "go", agent: str = "agent", **fields: str) -> JsonObject:
        """Make a run and return it once it pauses or ends."""
        return await self._post(f"/agents/{agent}/runs", {"message": message, **fields})

    async def answer(self, run: JsonObject, *answers: JsonObject) -> JsonObject:
        """Continue the run with these answers and return it once it pauses or ends."""
        path = f"/agents/{run['agent_id']}/runs/{run['run_id']}/continue"
        return await self._post(path, {"tools": json.dumps(answers)})

    async def confirm(self, run: JsonObject) -> JsonObject:
        """Confirm everything that is open."""
        return await self.answer(run, *(yes(tool) for tool in open_tools(run)))

    async def events(
        self, run: JsonObject | None = None, *answers: JsonObject, message: str = "go"
    ) -> list[JsonObject]:
        """Return the events of a new run, or of continuing this one."""
        if run is None:
            response = await self.client.post("/agents/agent/runs", data={"message": message})
        else:
            path = f"/agents/{run['agent_id']}/runs/{run['run_id']}/continue"
            response = await self.client.post(path, data={"tools": json.dumps(answers)})
        assert response.status_code == 200, response.text
        return read_events(response.text)

    async def resume(self, run_key: int, prompt: str) -> None:
        """Resume the run through Codegen's API and wait until it pauses or ends."""
        principal = Principal(DEFAULT_ORGANIZATION)
        last = (await self.application.service.get_run(principal, RunRef(id=run_key))).last_sequence
        path = f"/v1/organizations/{DEFAULT_ORGANIZATION}/agent/run/resume"
        response = await self.client.post(path, json={"agent_run_id": run_key, "prompt": prompt})
        assert response.status_code == 200, response.text
        async for _ in self.application.follower.follow_run(run_key, last):
            pass

    async def _post(self, path: str, form: dict[str, str]) -> JsonObject:
        response = await self.client.post(path, data={"stream": "false", **form})
        assert response.status_code == 200, response.text
        body = response.json()
        assert isinstance(body, dict)
        return body


@asynccontextmanager
async def driving(
    folder: Path,
    *agents: Agent[Any, Any],
    **changes: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Driving]:
    """Serve these agents on a database in ``folder``; the same folder again is a restart."""
    seen: list[Application] = []
    async with serving(folder, agents, seen=seen.append, **changes) as client:
        yield Driving(client, seen[0])


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
