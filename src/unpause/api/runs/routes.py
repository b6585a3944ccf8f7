"""Routes for runs of all agents, whichever API created them: search, read, cancel, pause, resume."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.answers import answer
from unpause.api.dependencies import App, address_of
from unpause.api.idempotency import IdempotencyKey, read_request_key, respond_once
from unpause.api.json import large_json_response
from unpause.api.native import CONFLICT, ERRORS, Caller, NativeRoute
from unpause.api.runs.wire import overview_json, run_detail, run_page, run_state, timeline_json
from unpause.api.time_parameters import Moment
from unpause.domain.run_search import RunSearch
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import InvalidInput, NotFound
from unpause.services.commands import ContinueRun

router = APIRouter(route_class=NativeRoute, tags=["Runs"], responses=ERRORS)

_LONGEST_NAME = 255
_LONGEST_TEXT = 500
_LARGEST = 2**31 - 1
# What a browser shows as a picture and never executes.
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_FILE = "application/octet-stream"
_IMAGE_CONTENT = {media: {"schema": {"type": "string", "format": "binary"}} for media in (*_PICTURES, _FILE)}
# A picture never changes.
_PRIVATE = {"Cache-Control": "private, max-age=3600"}


def _upper(word: object) -> object:
    return word.upper() if isinstance(word, str) else word


Status = Annotated[RunStatus, BeforeValidator(_upper)]
Name = Annotated[str | None, Query(max_length=_LONGEST_NAME)]


class ResumeRunRequest(BaseModel):
    """How to resume a paused run."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | None = Field(
        default=None,
        description="The user's words to the model. Where the run waits for decisions, the prompt rejects them and "
        "answers questions, as in Codegen's resume",
    )


def read_search(  # noqa: PLR0913, PLR0917 - the parameters of the wire
    status: Annotated[list[Status] | None, Query(description="Any of these")] = None,
    agent_id: Name = None,
    user_id: Name = None,
    session_id: Name = None,
    since: Annotated[Moment | None, Query(description="Created at this time or later")] = None,
    until: Annotated[Moment | None, Query(description="Created before this time")] = None,
    search: Annotated[
        str | None,
        Query(max_length=_LONGEST_TEXT, description="Text in the prompt, the beginning of `run_id`, or the number"),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next` of the page before")] = None,
) -> RunSearch:
    """Return what to search for."""
    return RunSearch(
        statuses=frozenset(status or ()),
        agent_id=agent_id or None,
        user_id=user_id or None,
        session_id=session_id or None,
        since=since,
        until=until,
        text=(search or "").strip() or None,
        before=None if cursor is None else int(cursor),
        limit=limit,
    )


@router.get("/runs", operation_id="search_runs", response_model=None, responses=answer("RunPage", "The runs"))
async def search_runs(
    application: App, caller: Caller, request: Request, search: Annotated[RunSearch, Depends(read_search)]
) -> Response:
    """Return the runs that the caller may see, of all agents, newest first.

    A page looks for an agent or a text in 10,000 runs at most, and may be empty: go on with `next` until it is null.
    """
    found = await application.run_finder.search(caller, search)
    return await large_json_response(run_page(found, address_of(application, request)))


@router.get("/runs/{run_id}", operation_id="get_run", response_model=None, responses=answer("RunDetail", "The run"))
async def get_run(application: App, caller: Caller, request: Request, run_id: str) -> Response:
    """Return a run with its result, its segments, and what it waits or waited for.

    Administrators also see its audit trail, and the traceback of one that failed.
    """
    details = await application.run_finder.get_details(caller, run_id)
    address = address_of(application, request)
    return await large_json_response(run_detail(details, address, for_admin=caller.is_admin))


@router.get(
    "/runs/{run_id}/timeline",
    operation_id="get_run_timeline",
    response_model=None,
    responses=answer("RunTimeline", "The timeline"),
)
async def get_run_timeline(application: App, caller: Caller, run_id: str) -> Response:
    """Return what happened in a run so far, and where its time went; follow its events to see what comes."""
    timeline = await application.run_finder.get_timeline(caller, run_id)
    return await large_json_response(timeline_json(timeline))


@router.get(
    "/runs/{run_id}/images/{prompt_number}/{image_number}",
    operation_id="get_run_image",
    response_model=None,
    response_class=Response,
    responses={200: {"content": _IMAGE_CONTENT, "description": "The image"}},
)
async def get_run_image(
    application: App,
    caller: Caller,
    run_id: str,
    prompt_number: Annotated[int, Path(ge=0, le=_LARGEST, description="`prompt` of the message in the timeline")],
    image_number: Annotated[int, Path(ge=0, le=_LARGEST, description="From 0")],
) -> Response:
    """Return a picture that came with one of the run's prompts; another kind of file as a download."""
    image = await application.run_finder.get_image(caller, run_id, prompt_number, image_number)
    if image is None:
        raise NotFound("Image not found")
    content = await asyncio.to_thread(b64decode, image.data)
    if image.media_type in _PICTURES:
        return Response(content, media_type=image.media_type, headers=_PRIVATE)
    return Response(content, media_type=_FILE, headers={**_PRIVATE, "Content-Disposition": "attachment"})


@router.post(
    "/runs/{run_id}/cancel",
    operation_id="cancel_run",
    response_model=None,
    responses=answer("RunState", "Cancelled, or ended before"),
)
async def cancel_run(application: App, caller: Caller, run_id: str) -> Response:
    """Cancel a run, whatever its status; one that has ended stays as it is."""
    run = await application.service.cancel_run(caller, RunRef(run_id=run_id))
    return await large_json_response(run_state(run))


@router.post(
    "/runs/{run_id}/pause",
    operation_id="pause_run",
    response_model=None,
    responses={**answer("RunState", "Accepted"), **CONFLICT},
)
async def pause_run(application: App, caller: Caller, run_id: str) -> Response:
    """Pause a run before its next model or tool call; one that is paused stays as it is."""
    run = await application.service.pause_run(caller, RunRef(run_id=run_id))
    return await large_json_response(run_state(run))


@router.post(
    "/runs/{run_id}/resume",
    operation_id="resume_run",
    response_model=None,
    responses={**answer("RunState", "The run goes on"), **CONFLICT},
)
async def resume_run(
    application: App,
    caller: Caller,
    run_id: str,
    body: ResumeRunRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Resume a paused run. One that waits for decisions goes on once these are made: see the inbox."""
    prompt = None if body is None else body.prompt
    if prompt is not None and len(prompt) > application.settings.max_message_chars:
        raise InvalidInput(f"prompt is longer than {application.settings.max_message_chars} characters")
    principal = caller.acting_for(None)
    request_key = read_request_key(principal, idempotency_key, "runs.resume_run", run_id=run_id, prompt=prompt)
    accepted = await application.service.continue_run(
        principal, RunRef(run_id=run_id), ContinueRun(prompt=prompt), request_key
    )

    async def make() -> bytes:
        return to_json(run_state(accepted.run))

    return await respond_once(application, request_key, accepted.answer, make)


@router.get(
    "/overview",
    operation_id="get_overview",
    response_model=None,
    responses=answer("OverviewResponse", "The overview"),
)
async def get_overview(application: App, caller: Caller, request: Request) -> Response:
    """Return the state of the runs that the caller may see: what waits, how long decisions take, and who executes.

    Only administrators see the workers and the webhooks that fail.
    """
    overview = await application.overviews.get_overview(caller)
    return await large_json_response(overview_json(overview, address_of(application, request)))
