"""A served desk agent, spoken to through both APIs, whose whole database can be looked at."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
from sqlalchemy import select

from tests.support.agents import desk_agent, plan
from tests.support.serving import serving
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.runs import RunRef
from unpause.store.tables import metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from unpause.bootstrap import Application

JsonObject: TypeAlias = dict[str, Any]
ORGANIZATION = f"/v1/organizations/{DEFAULT_ORGANIZATION}/agent/run"

_SOMEBODY = Principal(DEFAULT_ORGANIZATION)


@dataclass(frozen=True)
class Desk:
    """One server with the agents ``desk`` and ``other``; ``executed`` is what their tools did."""

    client: httpx.AsyncClient
    application: Application
    executed: list[str] = field(default_factory=list)

    async def create(self, *turns: Sequence[tuple[str, JsonObject]], **fields: str) -> JsonObject:
        """Make a run that calls these tools and return it as it is when it pauses or ends."""
        form = {"message": plan(*turns), "stream": "false", **fields}
        response = await self.client.post("/agents/desk/runs", data=form)
        assert response.status_code == 200, response.text
        return read_object(response)

    async def get(self, run: JsonObject) -> JsonObject:
        """Return the run as AgentOS's GET shows it now."""
        response = await self.client.get(f"/agents/{run['agent_id']}/runs/{run['run_id']}")
        assert response.status_code == 200, response.text
        return read_object(response)

    async def post_continue(self, run: JsonObject, tools: object = "", **fields: str) -> httpx.Response:
        """Continue the run; ``tools`` that are no text are sent as JSON."""
        text = tools if isinstance(tools, str) else json.dumps(tools)
        form = {"tools": text, "stream": "false", **fields}
        return await self.client.post(f"/agents/{run['agent_id']}/runs/{run['run_id']}/continue", data=form)

    async def continued(self, run: JsonObject, tools: object = "", **fields: str) -> JsonObject:
        """Continue the run and return it as it is then."""
        response = await self.post_continue(run, tools, **fields)
        assert response.status_code == 200, response.text
        return read_object(response)

    async def create_by_codegen(self, prompt: str, **keys: object) -> JsonObject:
        """Make a run through Codegen's API and return it once it paused or ended."""
        response = await self.client.post(ORGANIZATION, json={"prompt": prompt, **keys})
        assert response.status_code == 200, response.text
        return await self.settled(read_object(response)["id"])

    async def resume(self, run_key: int, prompt: str, **keys: object) -> httpx.Response:
        """Resume the run through Codegen's API; where it was accepted, wait until it pauses or ends again."""
        name = RunRef(id=run_key)
        last = (await self.application.service.get_run(_SOMEBODY, name)).last_sequence
        response = await self.client.post(
            f"{ORGANIZATION}/resume", json={"agent_run_id": run_key, "prompt": prompt, **keys}
        )
        if response.is_success:
            await self.settled(run_key, last)
        return response

    async def settled(self, run_key: int, after: int = 0) -> JsonObject:
        """Return the run as Codegen shows it, once the segment that begins after event ``after`` has ended."""
        async for _ in self.application.follower.follow_run(run_key, after):
            pass
        return await self.read(run_key)

    async def read(self, run_key: int) -> JsonObject:
        """Return the run as Codegen's GET shows it now."""
        response = await self.client.get(f"{ORGANIZATION}/{run_key}")
        assert response.status_code == 200, response.text
        return read_object(response)

    async def key_of(self, run: JsonObject) -> int:
        """Return Codegen's id of a run that AgentOS named."""
        return (await self.application.service.get_run(_SOMEBODY, RunRef(run_id=run["run_id"]))).id

    async def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return every row of every table."""

        def unit(connection: Connection) -> dict[str, list[tuple[Any, ...]]]:
            return {
                table.name: [tuple(row) for row in connection.execute(select(*table.c).order_by(*table.primary_key))]
                for table in metadata.sorted_tables
            }

        return await self.application.database.read(unit)

    @asynccontextmanager
    async def nothing_changes(self, run: JsonObject, status: str = "PAUSED") -> AsyncIterator[None]:
        """Fail unless the block leaves every row as it was, the run in ``status``, and runs no tool."""
        before, executed = await self.dump(), list(self.executed)
        yield
        assert await self.dump() == before
        assert (await self.get(run))["status"] == status
        assert self.executed == executed

    async def refused(self, run: JsonObject, tools: object, **fields: str) -> tuple[int, JsonObject]:
        """Continue a paused run in a way that must not work; return status and body, once nothing changed."""
        async with self.nothing_changes(run):
            response = await self.post_continue(run, tools, **fields)
        assert 400 <= response.status_code < 500, response.text
        return response.status_code, read_object(response)


@asynccontextmanager
async def at_desk(folder: Path, **changes: Any) -> AsyncIterator[Desk]:  # noqa: ANN401 - any setting
    """Serve the agents ``desk`` and ``other`` on a database in ``folder``."""
    executed: list[str] = []
    agents = [desk_agent(executed), desk_agent(executed, name="other")]
    applications: list[Application] = []
    async with serving(folder, agents, seen=applications.append, **changes) as client:
        yield Desk(client, applications[0], executed)


def read_object(response: httpx.Response) -> JsonObject:
    """Return the JSON object in a body, and fail where there is none."""
    body = response.json()
    assert isinstance(body, dict), body
    return body


def confirmed(tool: JsonObject, **changes: object) -> JsonObject:
    """Return the tool as a client echoes it, confirmed."""
    return {**tool, "confirmed": True, **changes}


def rejected(tool: JsonObject, note: str | None = None) -> JsonObject:
    """Return the tool as a client echoes it, rejected."""
    return {**tool, "confirmed": False, "confirmation_note": note}


def filled_in(tool: JsonObject, **values: object) -> JsonObject:
    """Return the tool as a client echoes it, with these values in its form."""
    schema = [{**item, "value": values.get(item["name"], item["value"])} for item in tool["user_input_schema"]]
    return {**tool, "user_input_schema": schema}
