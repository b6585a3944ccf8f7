"""AG-UI's routes: run an agent, and follow a run again."""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Header
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.answers import events, json_body
from unpause.api.dependencies import App, identify_caller
from unpause.api.documented_headers import RATE_LIMIT
from unpause.api.native import ERRORS, RATE_LIMITED, NativeRoute
from unpause.api.rate_limits import Bucket, limited
from unpause.api.sse import EventStream
from unpause.domain.principal import Principal
from unpause.domain.runs import RunRef

if TYPE_CHECKING:
    from types import ModuleType


class AgUiRoute(NativeRoute):
    """A route of AG-UI. Front ends send parameters of their own."""

    ignores_unknown_parameters = True


router = APIRouter(route_class=AgUiRoute, tags=["AG-UI"], responses=ERRORS)

# The name of this API in the record of a decision.
VIA = "ag-ui"

_EVENTS: dict[int | str, dict[str, Any]] = {
    **RATE_LIMITED,
    200: {"content": events("AgUiEvent"), "description": "The events of the run", "headers": RATE_LIMIT},
}


async def get_caller(request: Request, application: App) -> Principal:
    """Return the caller; where the settings isolate users, it sees nothing of other users. Raises UserMissing."""
    return identify_caller(request, application, VIA)


Caller = Annotated[Principal, Depends(get_caller)]

_LIMITED = limited(Bucket.AG_UI, get_caller)


async def _serving() -> ModuleType:
    """Return the module that knows the protocol: it takes half a second to import, of which a start has none."""
    return await asyncio.to_thread(import_module, "unpause.api.ag_ui.serving")


@router.post(
    "/agents/{agent_id}/ag-ui",
    operation_id="run_ag_ui_agent",
    response_model=None,
    response_class=EventStream,
    status_code=200,
    responses=_EVENTS,
    dependencies=_LIMITED,
    openapi_extra={"requestBody": {**json_body("AgUiRunAgentInput")["requestBody"], "required": True}},
)
async def run_ag_ui_agent(application: App, request: Request, caller: Caller, agent_id: str) -> Response:
    """Run an agent, or continue its paused run, as AG-UI 1.0 has it: events until it pauses or ends.

    A pause is `RUN_FINISHED` with an interrupt for each decision that is open; `resume` answers them, all at once. The
    same `runId` again streams the same run. What is wrong with a resume is told in the stream, as `RUN_ERROR`.
    """
    response: Response = await (await _serving()).run_agent(application, request, caller, agent_id)
    return response


@router.get(
    "/agents/{agent_id}/ag-ui/{run_id:path}/events",
    operation_id="follow_ag_ui_run",
    response_model=None,
    response_class=EventStream,
    status_code=200,
    dependencies=_LIMITED,
    responses={**_EVENTS, 204: {"description": "There is nothing after `Last-Event-ID`"}},
)
async def follow_ag_ui_run(
    application: App,
    request: Request,
    caller: Caller,
    agent_id: str,
    run_id: str,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Stream a run again, after `Last-Event-ID`, or from its start: by the client's `runId`, or by the server's."""
    ref = RunRef(run_id=run_id, agent_id=agent_id)
    serving = await _serving()
    response: Response = await serving.follow_again(application, request, caller, ref, last_event_id)
    return response
