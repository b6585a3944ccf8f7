"""Requests to a server through both APIs, and what its answers hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tests.support.frames import Frame, read_frames
from tests.support.toolbox import JsonObject, Turn, calls, plan
from unpause.bootstrap import Application
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.runs import RunRef
from unpause.store.runs import find_by_key

RUNS = "/agents/toolbox/runs"
CODEGEN = f"/v1/organizations/{DEFAULT_ORGANIZATION}/agent/run"

# Seconds for anything that is waited for. Reached only when something is wrong.
DEADLINE = 60.0


@dataclass(frozen=True)
class Caller:
    """Somebody who sends requests: with a token or a JWT, or as everybody where none is needed."""

    client: httpx.AsyncClient
    application: Application
    authorization: str = ""

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        **content: Any,  # noqa: ANN401 - httpx's own
    ) -> httpx.Response:
        """Send any request."""
        sent = {**({"Authorization": self.authorization} if self.authorization else {}), **(headers or {})}
        async with asyncio.timeout(DEADLINE):
            return await self.client.request(method, path, headers=sent, **content)

    async def get(self, path: str, **query: object) -> httpx.Response:
        """Read something."""
        return await self.request("GET", path, params={name: str(value) for name, value in query.items()} or None)

    async def post(self, path: str, body: object = None, key: str | None = None) -> httpx.Response:
        """Send JSON; ``key`` is its Idempotency-Key."""
        return await self.request("POST", path, _idempotent(key), json=body)

    async def patch(self, path: str, body: object) -> httpx.Response:
        """Change something."""
        return await self.request("PATCH", path, json=body)

    async def delete(self, path: str, body: object = None) -> httpx.Response:
        """Delete something."""
        return await self.request("DELETE", path, json=body)

    async def form(self, path: str, key: str | None = None, **fields: str) -> httpx.Response:
        """Send a form, for an answer that is no stream unless it says so; ``key`` is its Idempotency-Key."""
        return await self.request("POST", path, _idempotent(key), data={"stream": "false", **fields})

    # ---------------------------------------------------------------------------- AgentOS

    async def create(self, *turns: str | Turn, agent: str = "toolbox", **form: str) -> JsonObject:
        """Create a run with this message, or one that calls these tools; return it once it pauses or ends."""
        return body_of(await self.form(f"/agents/{agent}/runs", message=_message(turns), **form))

    async def run_tools(self, *names: str, **form: str) -> JsonObject:
        """Create a run that calls these tools at once; return it once it pauses or ends."""
        return await self.create(calls(*names), **form)

    async def begin(self, *turns: str | Turn, agent: str = "toolbox", **form: str) -> JsonObject:
        """Create a run in the background; return its ids."""
        sent = {"message": _message(turns), "background": "true", **form}
        return {"agent_id": agent, **body_of(await self.form(f"/agents/{agent}/runs", **sent), 202)}

    async def read(self, run: JsonObject) -> JsonObject:
        """Return the run as it stands."""
        return body_of(await self.get(path_of(run)))

    async def settled(self, run: JsonObject) -> JsonObject:
        """Return the run once nobody executes it."""
        await self.frames(run)
        return await self.read(run)

    async def frames(self, run: JsonObject, last_event_id: str | None = None) -> list[Frame]:
        """Return the run's events after a number, until it settles."""
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        response = await self.request("GET", f"{path_of(run)}/events", headers)
        assert response.status_code == 200, response.text
        return read_frames(response.text)

    async def post_continue(
        self, run: JsonObject, tools: object = "", key: str | None = None, **form: str
    ) -> httpx.Response:
        """Continue the run; ``tools`` that are no text are sent as JSON."""
        text = tools if isinstance(tools, str) else json.dumps(tools)
        return await self.form(f"{path_of(run)}/continue", key, tools=text, **form)

    async def continued(self, run: JsonObject, tools: object = "", **form: str) -> JsonObject:
        """Continue the run and return it once it pauses or ends again."""
        return body_of(await self.post_continue(run, tools, **form))

    async def answer(
        self,
        run: JsonObject,
        *,
        confirmed: bool | None = True,
        form: Mapping[str, str] | None = None,
        **changes: object,
    ) -> httpx.Response:
        """Continue the run with the same answer to everything that is open."""
        shown = await self.as_administrator().read(run)
        waiting = [item["tool_execution"] for item in shown["requirements"] if "confirmation" not in item]
        return await self.post_continue(
            run, [{**tool, "confirmed": confirmed, **changes} for tool in waiting], **(form or {})
        )

    async def cancel(self, run: JsonObject) -> httpx.Response:
        """Cancel the run."""
        return await self.request("POST", f"{path_of(run)}/cancel")

    async def pause(self, run: JsonObject) -> None:
        """Request that the run pauses; fail unless that is accepted."""
        assert body_of(await self.request("POST", f"{path_of(run)}/pause")) == {}

    async def approvals(self, **query: object) -> list[JsonObject]:
        """Return the approvals that a list shows."""
        listed: list[JsonObject] = body_of(await self.get("/approvals", **query))["data"]
        return listed

    async def approval_of(self, run: JsonObject, **query: object) -> JsonObject:
        """Return the one approval of the run, or the one that fits the query."""
        (found,) = await self.as_administrator().approvals(run_id=run["run_id"], **query)
        return found

    async def resolve(
        self, approval: JsonObject, status: str = "approved", key: str | None = None, **body: object
    ) -> httpx.Response:
        """Resolve the approval, or the one of this run."""
        if "id" not in approval:
            approval = await self.approval_of(approval)
        return await self.post(f"/approvals/{approval['id']}/resolve", {"status": status, **body}, key)

    async def audit(self, **query: object) -> list[JsonObject]:
        """Return the audit trail, oldest first."""
        listed: list[JsonObject] = body_of(await self.get("/audit", **query))["data"]
        return listed[::-1]

    # ---------------------------------------------------------------------------- Codegen

    async def create_by_codegen(self, *turns: str | Turn, **keys: object) -> JsonObject:
        """Create a run through Codegen's API and return it once it pauses or ends."""
        made = body_of(await self.post(CODEGEN, {"prompt": _message(turns), **keys}))
        return await self.settled_by_codegen(made["id"])

    async def resume(
        self, run: JsonObject | int, prompt: str = "", key: str | None = None, **keys: object
    ) -> httpx.Response:
        """Resume the run through Codegen's API; where that is accepted, wait until it pauses or ends again."""
        number = run if isinstance(run, int) else await self.key_of(run)
        last = await self._last_event(number)
        body = {"agent_run_id": number, "prompt": prompt, **keys}
        response = await self.post(f"{CODEGEN}/resume", body, key)
        if response.is_success:
            await self.settled_by_codegen(number, last)
        return response

    async def read_by_codegen(self, run: JsonObject | int, rest: str = "") -> JsonObject:
        """Return the run, or what is below it, as Codegen's API shows it."""
        number = run if isinstance(run, int) else await self.key_of(run)
        return body_of(await self.get(f"{CODEGEN}/{number}{rest}"))

    async def settled_by_codegen(self, key: int, after: int = 0) -> JsonObject:
        """Return the run as Codegen shows it, once the segment that begins after event ``after`` has ended."""
        async with asyncio.timeout(DEADLINE):
            async for _ in self.application.follower.follow_run(key, after):
                pass
        return await self.as_administrator().read_by_codegen(key)

    async def key_of(self, run: JsonObject) -> int:
        """Return Codegen's number of the run."""
        principal = Principal(DEFAULT_ORGANIZATION)
        return (await self.application.service.get_run(principal, RunRef(run_id=run["run_id"]))).id

    async def _last_event(self, key: int) -> int:
        run = await self.application.database.read(lambda connection: find_by_key(connection, key))
        return 0 if run is None else run.last_sequence

    def as_administrator(self) -> Caller:
        """Return who reads what the tests check."""
        return self


def path_of(run: JsonObject) -> str:
    """Return where AgentOS's API has the run."""
    return f"/agents/{run.get('agent_id', 'toolbox')}/runs/{run['run_id']}"


def body_of(response: httpx.Response, status: int = 200) -> JsonObject:
    """Return the JSON object in an answer of this status."""
    assert response.status_code == status, response.text
    body = response.json()
    assert isinstance(body, dict), body
    return body


def refusal(response: httpx.Response, status: int) -> str:
    """Return what a refusal of this status says, in the shape of its API."""
    body = body_of(response, status)
    if "/v1/" in str(response.request.url):
        assert body["status_code"] == status
        return str(body["message"])
    return str(body["detail"])


def _idempotent(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


def _message(turns: Sequence[str | Turn]) -> str:
    if len(turns) == 1 and isinstance(turns[0], str):
        return turns[0]
    return plan(*(turn for turn in turns if not isinstance(turn, str)))


# -------------------------------------------------------------------------------- tools as clients send them


def confirming(run: JsonObject, *, confirmed: bool = True, **changes: object) -> list[JsonObject]:
    """Return the tools that a client sends to confirm, or not, all calls of the run that wait for that."""
    return [{**tool, "confirmed": confirmed, **changes} for tool in run["tools"] if tool["requires_confirmation"]]


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
