"""AgentOS's routes for runs: create, read, list, continue, cancel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Form, Query
from starlette.requests import Request

from unpause.api.agentos.caller import Caller, naming_agent
from unpause.api.agentos.media import SentMedia, read_media, sent_media
from unpause.api.agentos.replies import answer_at_once, answer_with_run, answer_with_stream, reply
from unpause.api.agentos.wire.pages import page_at
from unpause.api.agentos.wire.requests import parse_object, parse_output_schema, parse_tools, read_tools
from unpause.api.agentos.wire.responses import CONFLICT, ERRORS, RUN
from unpause.api.agentos.wire.runs import run_output, run_schema
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.idempotency import IdempotencyKey, fields_of, read_request_key
from unpause.api.large_json import reply_large
from unpause.api.middleware.authentication import open_stream
from unpause.domain.conflicts import not_paused
from unpause.domain.runs import RunFilter, RunRef, RunStatus
from unpause.errors import InvalidInput, RunNotFound, SessionNotFound
from unpause.services.commands import ContinueRun, CreateRun
from unpause.services.sessions import SessionRunsQuery

if TYPE_CHECKING:
    from starlette.responses import Response

    from unpause.bootstrap import Application
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import ToolAnswer

router = APIRouter(route_class=AgnoRoute, tags=["Agents"], responses=ERRORS)

_LONGEST_NAME = 255

# A picture in a form field may be as large as one in an upload: bodies have a limit, and pictures have.
_ANY_SIZE = sys.maxsize

Name = Annotated[str | None, Form(max_length=_LONGEST_NAME)]
Flag = Annotated[bool, Form()]
Text = Annotated[str | None, Form()]


@router.post(
    "/agents/{agent_id}/runs",
    operation_id="create_agent_run",
    response_model=None,
    responses=RUN,
    form_limits={"max_part_size": _ANY_SIZE},
)
async def create_agent_run(  # noqa: PLR0913, PLR0917 - the fields of the wire
    application: App,
    request: Request,
    caller: Caller,
    agent_id: str,
    message: Annotated[str, Form()],
    media: Annotated[SentMedia, Depends(sent_media)],
    stream: Flag = True,  # noqa: FBT002 - a form field
    stream_events: Flag = True,  # noqa: FBT002 - a form field
    background: Flag = False,  # noqa: FBT002 - a form field
    session_id: Name = None,
    user_id: Name = None,
    session_state: Text = None,
    dependencies: Text = None,
    metadata: Text = None,
    output_schema: Text = None,
    use_json_schema: Flag = False,  # noqa: FBT002 - a form field
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Run an agent on a message: its events as they happen, or the run once it pauses or ends.

    In the background the answer is 202 at once, to be polled for.
    """
    if stream and not background:
        open_stream(request)
    _check_length("message", message, application)
    longest = application.settings.max_json_chars
    command = CreateRun(
        agent_id=agent_id,
        prompt=message,
        session_id=caller.session_id or session_id or None,
        images=await read_media(media, application.settings),
        session_state=await parse_object("session_state", session_state, longest),
        dependencies=await parse_object("dependencies", dependencies, longest),
        metadata=await parse_object("metadata", metadata, longest),
        output_schema=await parse_output_schema(output_schema, as_it_is=use_json_schema),
    )
    principal = caller.acting_for(user_id)
    request_key = read_request_key(
        principal,
        idempotency_key,
        "agentos.create_run",
        **fields_of(command),
        user_id=user_id,
        stream=stream,
        background=background,
    )
    accepted = await application.service.create_run(principal, command, request_key)
    if background:
        return answer_at_once(accepted)
    if stream:
        return await answer_with_stream(application, accepted, deltas_only=not stream_events)
    return await answer_with_run(application, request, accepted, request_key, stored=False)


@router.get("/agents/{agent_id}/runs", operation_id="list_agent_runs", response_model=None)
async def list_agent_runs(  # noqa: PLR0913, PLR0917 - the parameters of the wire
    application: App,
    caller: Caller,
    agent_id: str,
    session_id: Annotated[str, Query()],
    status: Annotated[str | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """Return a page of a session's runs of this agent; none for a session that does not exist."""
    if status is not None and status not in RunStatus.__members__:
        application.agents.get_agent(agent_id)
        return reply([])
    wanted = RunFilter(frozenset({RunStatus(status)}) if status is not None else None, agent_id)
    try:
        # Nobody's in particular: of those who see everybody's sessions, not only their own.
        asker = caller.looking_for(None)
        views = await application.sessions.list_runs(asker, session_id, SessionRunsQuery(wanted, page_at(page, limit)))
    except SessionNotFound:
        views = []
    if not views:
        application.agents.get_agent(agent_id)
    return await reply_large([run_schema(view, for_admin=caller.is_admin) for view in views])


@router.get("/agents/{agent_id}/runs/{run_id}", operation_id="get_agent_run", response_model=None)
async def get_agent_run(
    application: App, caller: Caller, agent_id: str, run_id: str, session_id: Annotated[str | None, Query()] = None
) -> Response:
    """Return a run as it stands."""
    name = RunRef(run_id=run_id, agent_id=agent_id, session_id=session_id or None)
    with naming_agent(application, agent_id):
        view = await application.service.get_view(caller, name)
    return await reply_large(run_output(view, stored=True, for_admin=caller.is_admin))


@router.post(
    "/agents/{agent_id}/runs/{run_id}/continue",
    operation_id="continue_agent_run",
    response_model=None,
    responses={**RUN, **CONFLICT},
)
async def continue_agent_run(  # noqa: PLR0913, PLR0917 - the fields of the wire
    application: App,
    request: Request,
    caller: Caller,
    agent_id: str,
    run_id: str,
    tools: Annotated[str, Form()] = "",
    session_id: Name = None,
    user_id: Name = None,
    pause_id: Name = None,
    stream: Flag = True,  # noqa: FBT002 - a form field
    background: Flag = False,  # noqa: FBT002 - a form field
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send a paused run on with the user's decisions.

    ``tools`` is a JSON array of tool executions as the run showed them, with answers filled in. The
    stored calls run, never the ones sent. The checks come in the order of agno.md section 2.
    """
    if stream:
        open_stream(request)
    parsed = await parse_tools(tools)
    name = RunRef(
        run_id=run_id,
        agent_id=agent_id,
        session_id=caller.session_id or session_id or None,
        # Whoever has proved to be somebody need not say it, and cannot say otherwise.
        user_id=None if caller.subject is not None else user_id or None,
    )
    principal = caller.acting_for(user_id)
    request_key = read_request_key(
        principal,
        idempotency_key,
        "agentos.continue_run",
        run=fields_of(name),
        tools=tools,
        pause_id=pause_id,
        stream=stream,
        background=background,
    )
    try:
        with naming_agent(application, agent_id):
            answers = await _read_answers(application, principal, name, parsed)
            command = ContinueRun(answers=answers, pause_id=pause_id or None)
            accepted = await application.service.continue_run(principal, name, command, request_key)
    except RunNotFound:
        raise RunNotFound(f"No runs found for run ID {run_id}") from None
    if stream:
        return await answer_with_stream(application, accepted)
    if background:
        return answer_at_once(accepted)
    return await answer_with_run(application, request, accepted, request_key, stored=True)


@router.post("/agents/{agent_id}/runs/{run_id}/cancel", operation_id="cancel_agent_run", response_model=None)
async def cancel_agent_run(application: App, caller: Caller, agent_id: str, run_id: str) -> dict[str, Any]:
    """End a run for good, whether it runs, waits or is paused; one that has ended stays as it is."""
    with naming_agent(application, agent_id):
        await application.service.cancel_run(caller, RunRef(run_id=run_id, agent_id=agent_id))
    return {}


@router.post(
    "/agents/{agent_id}/runs/{run_id}/pause", operation_id="pause_agent_run", response_model=None, responses=CONFLICT
)
async def pause_agent_run(application: App, caller: Caller, agent_id: str, run_id: str) -> dict[str, Any]:
    """Have a run pause before its next model or tool call; one that is paused stays as it is. Not in AgentOS."""
    with naming_agent(application, agent_id):
        await application.service.pause_run(caller, RunRef(run_id=run_id, agent_id=agent_id))
    return {}


async def _read_answers(
    application: Application, principal: Principal, name: RunRef, parsed: object
) -> tuple[ToolAnswer, ...]:
    """Return the answers; where their shape is wrong, raise what is wrong with the run, and only then InvalidInput.

    A run that is not there or not paused is told first. Of answers in shape the continue itself sees that.
    """
    try:
        return read_tools(parsed, application.settings.max_tools)
    except InvalidInput:
        run = await application.service.get_run(principal, name)
        if run.status is not RunStatus.PAUSED:
            raise not_paused(run) from None
        raise


def _check_length(field: str, text: str, application: Application) -> None:
    longest = application.settings.max_message_chars
    if len(text) > longest:
        raise InvalidInput(f"{field} is longer than {longest} characters")
