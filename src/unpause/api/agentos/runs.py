"""AgentOS's routes for runs: create, read, list, continue, cancel."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Form, Query
from starlette.requests import Request

from unpause.api.agentos.caller import Caller, checking_agent
from unpause.api.agentos.media import SentMedia, read_media, sent_media
from unpause.api.agentos.replies import accepted_response, json_response, run_response, stream_response
from unpause.api.agentos.wire.pages import page_at
from unpause.api.agentos.wire.requests import parse_object, parse_output_schema, parse_tools, read_tools
from unpause.api.agentos.wire.responses import CONFLICT, ERRORS, RUN, UNSUPPORTED
from unpause.api.agentos.wire.runs import run_output, run_schema
from unpause.api.answers import answer, answer_list, json_body
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.idempotency import IdempotencyKey, fields_of, read_request_key
from unpause.api.json import large_json_response
from unpause.api.middleware.authentication import count_as_stream
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

# A picture in a form field may be as large as an upload: bodies and pictures have limits of their own.
_ANY_SIZE = sys.maxsize

Name = Annotated[str | None, Form(max_length=_LONGEST_NAME)]
Flag = Annotated[bool, Form()]
Text = Annotated[str | None, Form()]


@router.post(
    "/agents/{agent_id}/runs",
    operation_id="create_agent_run",
    response_model=None,
    responses={**RUN, **CONFLICT, **UNSUPPORTED},
    openapi_extra=json_body("CreateAgentRunRequest"),
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
    """Run an agent on a message: stream its events, or return the run once it pauses or ends.

    With ``background`` the response is 202 at once, and clients poll the run.
    """
    if stream and not background:
        count_as_stream(request)
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
        output_schema=await parse_output_schema(output_schema, as_response_format=use_json_schema),
    )
    principal = caller.acting_for(user_id)
    fields = {**fields_of(command), "user_id": user_id, "stream": stream, "background": background}
    request_key = read_request_key(principal, idempotency_key, "agentos.create_run", **fields)
    accepted = await application.service.create_run(principal, command, request_key)
    if background:
        return accepted_response(accepted)
    if stream:
        return await stream_response(application, accepted, deltas_only=not stream_events)
    return await run_response(application, request, accepted, request_key, stored=False)


@router.get(
    "/agents/{agent_id}/runs",
    operation_id="list_agent_runs",
    response_model=None,
    responses=answer_list("RunSchema", "The runs, oldest first"),
)
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
        return json_response([])
    selection = RunFilter(frozenset({RunStatus(status)}) if status is not None else None, agent_id)
    try:
        # Not narrowed to the caller's own sessions where it may see all.
        viewer = caller.narrowed_to(None)
        views = await application.sessions.list_runs(
            viewer, session_id, SessionRunsQuery(selection, page_at(page, limit))
        )
    except SessionNotFound:
        views = []
    if not views:
        application.agents.get_agent(agent_id)
    return await large_json_response([run_schema(view, for_admin=caller.is_admin) for view in views])


@router.get(
    "/agents/{agent_id}/runs/{run_id}",
    operation_id="get_agent_run",
    response_model=None,
    responses=answer("RunOutput", "The run"),
)
async def get_agent_run(
    application: App, caller: Caller, agent_id: str, run_id: str, session_id: Annotated[str | None, Query()] = None
) -> Response:
    """Return a run."""
    ref = RunRef(run_id=run_id, agent_id=agent_id, session_id=session_id or None)
    with checking_agent(application, agent_id):
        view = await application.service.get_view(caller, ref)
    return await large_json_response(run_output(view, stored=True, for_admin=caller.is_admin))


@router.post(
    "/agents/{agent_id}/runs/{run_id}/continue",
    operation_id="continue_agent_run",
    response_model=None,
    responses={**RUN, **CONFLICT, **UNSUPPORTED},
    openapi_extra=json_body("ContinueAgentRunRequest"),
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
    """Continue a paused run with the user's decisions.

    ``tools`` is a JSON array of the run's tool executions with answers filled in. The stored calls run, never the ones
    sent. Checks: form and JSON, run, status, pending approvals, answers. With ``background`` the response is 202 at
    once, unless ``stream`` is sent, too.
    """
    # AgentOS 3.1.10 streams a continue that has both.
    streams = stream and (not background or "stream" in await request.form())
    if streams:
        count_as_stream(request)
    parsed = await parse_tools(tools)
    ref = RunRef(
        run_id=run_id,
        agent_id=agent_id,
        session_id=caller.session_id or session_id or None,
        # An authenticated user need not name itself, and cannot name another.
        user_id=None if caller.subject is not None else user_id or None,
    )
    principal = caller.acting_for(user_id)
    fields = {"tools": tools, "pause_id": pause_id, "stream": stream, "background": background}
    request_key = read_request_key(principal, idempotency_key, "agentos.continue_run", run=fields_of(ref), **fields)
    try:
        with checking_agent(application, agent_id):
            answers = await _read_answers(application, principal, ref, parsed)
            command = ContinueRun(answers=answers, pause_id=pause_id or None)
            accepted = await application.service.continue_run(principal, ref, command, request_key)
    except RunNotFound:
        raise RunNotFound(f"No runs found for run ID {run_id}") from None
    if streams:
        return await stream_response(application, accepted)
    if background:
        return accepted_response(accepted)
    return await run_response(application, request, accepted, request_key, stored=True)


@router.post(
    "/agents/{agent_id}/runs/{run_id}/cancel",
    operation_id="cancel_agent_run",
    response_model=None,
    responses=answer("EmptyResponse", "Cancelled, or ended before"),
)
async def cancel_agent_run(application: App, caller: Caller, agent_id: str, run_id: str) -> dict[str, Any]:
    """Cancel a run, whatever its status; one that has ended stays as it is."""
    with checking_agent(application, agent_id):
        await application.service.cancel_run(caller, RunRef(run_id=run_id, agent_id=agent_id))
    return {}


@router.post(
    "/agents/{agent_id}/runs/{run_id}/pause",
    operation_id="pause_agent_run",
    response_model=None,
    responses={**answer("EmptyResponse", "Accepted"), **CONFLICT},
)
async def pause_agent_run(application: App, caller: Caller, agent_id: str, run_id: str) -> dict[str, Any]:
    """Pause a run before its next model or tool call; one that is paused stays as it is. Not in AgentOS."""
    with checking_agent(application, agent_id):
        await application.service.pause_run(caller, RunRef(run_id=run_id, agent_id=agent_id))
    return {}


async def _read_answers(
    application: Application, principal: Principal, ref: RunRef, parsed: object
) -> tuple[ToolAnswer, ...]:
    """Return the answers; raise InvalidInput for malformed ones.

    An error about the run comes first: it is not found, or not paused. For well-formed answers the continue checks it.
    """
    try:
        return read_tools(parsed, application.settings.max_tools)
    except InvalidInput:
        run = await application.service.get_run(principal, ref)
        if run.status is not RunStatus.PAUSED:
            raise not_paused(run) from None
        raise


def _check_length(field: str, text: str, application: Application) -> None:
    longest = application.settings.max_message_chars
    if len(text) > longest:
        raise InvalidInput(f"{field} is longer than {longest} characters")
