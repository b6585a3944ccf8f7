"""AgentOS's routes for runs: create, read, continue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Form, Query
from pydantic_core import to_json
from starlette.responses import Response

from unpause.api.agentos.schemas import parse_tools, read_tools
from unpause.api.agentos.translate import framer, run_output
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.sse import stream_events
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.runs import RunStatus
from unpause.errors import InvalidInput, RunNotFound
from unpause.runs.commands import ContinueRun, CreateRun, RunName
from unpause.store.runs import not_paused

if TYPE_CHECKING:
    from unpause.bootstrap import Application
    from unpause.domain.runs import Run

router = APIRouter(route_class=AgnoRoute, tags=["Agents"])

_LONGEST_NAME = 255

Name = Annotated[str | None, Form(max_length=_LONGEST_NAME)]
Stream = Annotated[bool, Form()]


@router.post("/agents/{agent_id}/runs", operation_id="create_agent_run", response_model=None)
async def create_agent_run(
    application: App,
    agent_id: str,
    message: Annotated[str, Form()],
    stream: Stream = True,  # noqa: FBT002 - a form field
    session_id: Name = None,
    user_id: Name = None,
) -> Response:
    """Run an agent on a message: its events as they happen, or the run once it pauses or ends."""
    _check_length("message", message, application)
    command = CreateRun(agent_id=agent_id, prompt=message, session_id=session_id or None)
    run = await application.service.create_run(_principal(user_id), command)
    return await _answer(application, run, after=0, stream=stream, stored=False)


@router.get("/agents/{agent_id}/runs/{run_id}", operation_id="get_agent_run", response_model=None)
async def get_agent_run(
    application: App, agent_id: str, run_id: str, session_id: Annotated[str | None, Query()] = None
) -> Response:
    """Return a run as it stands."""
    application.agents.get_agent(agent_id)
    name = RunName(run_id=run_id, agent_id=agent_id, session_id=session_id or None)
    view = await application.service.get_view(_principal(None), name)
    return _json(run_output(view, stored=True))


@router.post("/agents/{agent_id}/runs/{run_id}/continue", operation_id="continue_agent_run", response_model=None)
async def continue_agent_run(  # noqa: PLR0913, PLR0917 - the fields of the wire
    application: App,
    agent_id: str,
    run_id: str,
    tools: Annotated[str, Form()] = "",
    session_id: Name = None,
    user_id: Name = None,
    pause_id: Name = None,
    stream: Stream = True,  # noqa: FBT002 - a form field
) -> Response:
    """Send a paused run on with the user's decisions.

    ``tools`` is a JSON array of tool executions as the run showed them, with answers filled in. The
    stored calls run, never the ones sent. The checks come in the order of agno.md section 2.
    """
    parsed = parse_tools(tools)
    application.agents.get_agent(agent_id)
    principal = _principal(user_id)
    name = RunName(run_id=run_id, agent_id=agent_id, session_id=session_id or None, user_id=user_id or None)
    try:
        run = await application.service.get_run(principal, name)
        if run.status is not RunStatus.PAUSED:
            raise not_paused(run)
        command = ContinueRun(answers=read_tools(parsed), pause_id=pause_id or None)
        continued = await application.service.continue_run(principal, name, command)
    except RunNotFound:
        raise RunNotFound(f"No runs found for run ID {run_id}") from None
    return await _answer(application, run, after=continued.after, stream=stream, stored=True)


async def _answer(application: Application, run: Run, *, after: int, stream: bool, stored: bool) -> Response:
    """Follow the run from event ``after`` on: as a stream, or silently until the segment ends."""
    events = application.follower.follow_run(run.id, after)
    if stream:
        return stream_events(events, framer(run), application.settings.keepalive_seconds)
    async for _ in events:
        pass
    view = await application.service.get_view(_principal(None), RunName(id=run.id))
    return _json(run_output(view, stored=stored))


def _principal(user_id: str | None) -> Principal:
    return Principal(DEFAULT_ORGANIZATION, user_id or None, via="agno")


def _check_length(field: str, text: str, application: Application) -> None:
    longest = application.settings.max_message_chars
    if len(text) > longest:
        raise InvalidInput(f"{field} is longer than {longest} characters")


def _json(content: dict[str, object]) -> Response:
    return Response(to_json(content), media_type="application/json")
