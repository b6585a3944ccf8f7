"""Codegen's routes for agent runs: create, get, resume."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Header, Path
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unpause.api.codegen.schemas import (
    AgentRunNotFoundErrorResponse,
    AgentRunResponse,
    ConflictErrorResponse,
    CreateAgentRunInput,
    PermissionsErrorResponse,
    ResumeAgentRunInput,
)
from unpause.api.codegen.translate import agent_run
from unpause.api.dependencies import App
from unpause.api.errors import CodegenRoute
from unpause.api.idempotency import IdempotencyKey, request_key
from unpause.api.images import read_images
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.errors import AgentNotFound, InvalidInput, OrganizationForbidden, RunNotFound
from unpause.runs.commands import ContinueRun, CreateRun, RunName

if TYPE_CHECKING:
    from unpause.bootstrap import Application
    from unpause.domain.runs import Run
    from unpause.runs.commands import Accepted
    from unpause.store.idempotency import RequestKey

router = APIRouter(route_class=CodegenRoute, tags=["Agents"])

_NOT_FOUND = "Agent run not found."

_RESPONSES: dict[int | str, dict[str, Any]] = {
    403: {"model": PermissionsErrorResponse, "description": "Forbidden"},
    404: {"model": AgentRunNotFoundErrorResponse, "description": "Not Found"},
}


async def get_member(
    org_id: Annotated[int, Path()],
    authorization: Annotated[Any, Header()] = None,  # noqa: ANN401 - untyped in the original too
) -> Principal:
    """Return who asks, as a member of the organization in the path; until tokens exist that is one organization."""
    del authorization
    if org_id != DEFAULT_ORGANIZATION:
        raise OrganizationForbidden
    return Principal(DEFAULT_ORGANIZATION, via="codegen")


Member = Annotated[Principal, Depends(get_member)]


@router.post(
    "/v1/organizations/{org_id}/agent/run",
    operation_id="create_agent_run_v1_organizations__org_id__agent_run_post",
    response_model=AgentRunResponse,
    responses=_RESPONSES,
)
async def create_agent_run(
    application: App,
    principal: Member,
    request: Request,
    body: CreateAgentRunInput,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run of the default agent; poll the run to learn how it goes."""
    _check_length(body.prompt, application)
    agent_id = application.agents.default_agent
    if agent_id is None:
        raise AgentNotFound("No agents are served here. Start the server with --agents.")
    command = CreateRun(
        agent_id=agent_id,
        prompt=body.prompt,
        images=read_images(body.images, application.settings),
        metadata=body.metadata,
    )
    asked = request_key(principal.organization_id, idempotency_key, "codegen create", command)
    accepted = await application.service.create_run(principal, command, asked)
    return await _answer_once(application, request, accepted, asked)


@router.get(
    "/v1/organizations/{org_id}/agent/run/{agent_run_id}",
    operation_id="get_agent_run_v1_organizations__org_id__agent_run__agent_run_id__get",
    response_model=AgentRunResponse,
    responses=_RESPONSES,
)
async def get_agent_run(
    application: App, principal: Member, request: Request, agent_run_id: Annotated[int, Path()]
) -> Response:
    """Return a run as it stands."""
    try:
        run = await application.service.get_run(principal, RunName(id=agent_run_id))
    except RunNotFound:
        raise RunNotFound(_NOT_FOUND) from None
    return _answer(run, application, request)


@router.post(
    "/v1/organizations/{org_id}/agent/run/resume",
    operation_id="resume_agent_run_v1_organizations__org_id__agent_run_resume_post",
    response_model=AgentRunResponse,
    responses={**_RESPONSES, 409: {"model": ConflictErrorResponse, "description": "The run is not paused"}},
)
async def resume_agent_run(
    application: App,
    principal: Member,
    request: Request,
    body: ResumeAgentRunInput,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Send a paused run on with the user's words and return at once.

    An open question takes the prompt as its answer; confirmations still open are declined with it as the note.
    """
    _check_length(body.prompt, application)
    name = RunName(id=body.agent_run_id)
    command = ContinueRun(prompt=body.prompt, images=read_images(body.images, application.settings))
    try:
        asked = request_key(principal.organization_id, idempotency_key, "codegen resume", name, command)
        accepted = await application.service.continue_run(principal, name, command, asked)
        run = await application.service.get_run(principal, name)
    except RunNotFound:
        raise RunNotFound(_NOT_FOUND) from None
    return await _answer_once(application, request, replace(accepted, run=run), asked)


async def _answer_once(
    application: Application, request: Request, accepted: Accepted, asked: RequestKey | None
) -> Response:
    """Answer with the run; to a key that was answered before, the same again."""
    if accepted.answer is not None:
        return Response(accepted.answer, media_type="application/json")
    response = _answer(accepted.run, application, request)
    if asked is not None:
        await application.service.keep_answer(asked, bytes(response.body).decode())
    return response


def _answer(run: Run, application: Application, request: Request) -> Response:
    address = application.settings.public_url or str(request.base_url)
    return JSONResponse(agent_run(run, address.rstrip("/")))


def _check_length(prompt: str, application: Application) -> None:
    longest = application.settings.max_message_chars
    if len(prompt) > longest:
        raise InvalidInput(f"prompt is longer than {longest} characters")
