"""Codegen's routes for agent runs: create, get, list, resume, pause, stop."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unpause.api.codegen.caller import Member, get_member, renaming_run_not_found
from unpause.api.codegen.webhooks import read_webhooks
from unpause.api.codegen.wire.pages import Page, Paging, page_json
from unpause.api.codegen.wire.runs import (
    CONFLICT,
    OF_MEMBERS,
    OF_RUNS,
    REFUSED,
    AgentRunLimitReachedErrorResponse,
    AgentRunResponse,
    AgentRunStatus,
    ApiAgentRunSourceType,
    CreateAgentRunInput,
    NoReposFoundInOrgErrorResponse,
    PauseAgentRunInput,
    ResumeAgentRunInput,
    StopAgentRunInput,
    StopAgentRunResponse,
)
from unpause.api.codegen.wire.translate import agent_run, ends_of, status_word
from unpause.api.dependencies import App, address_of
from unpause.api.errors import CodegenRoute
from unpause.api.idempotency import IdempotencyKey, fields_of, read_request_key, respond_once
from unpause.api.media.images import read_images
from unpause.api.rate_limits import Bucket, limited
from unpause.api.tool_answers import answers_in
from unpause.domain.runs import RunRef
from unpause.errors import InvalidInput, NotFound
from unpause.services.commands import ContinueRun, CreateRun
from unpause.services.run_lists import ListRuns

if TYPE_CHECKING:
    from unpause.bootstrap import Application
    from unpause.domain.idempotency import RequestKey
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run
    from unpause.services.commands import Accepted

router = APIRouter(route_class=CodegenRoute, tags=["agents"])

_NO_REPOS = "No repos found in the organization. Please add some repos and try again."
_NO_AGENTS = "No agents are served here. Start the server with --agents."

# The range of the database's column.
_REPOSITORIES = range(-(2**63), 2**63)


@router.post(
    "/v1/organizations/{org_id}/agent/run",
    operation_id="create_agent_run_v1_organizations__org_id__agent_run_post",
    response_model=AgentRunResponse,
    responses={
        **OF_MEMBERS,
        **REFUSED,
        402: {"model": AgentRunLimitReachedErrorResponse, "description": "Payment Required"},
        404: {"model": NoReposFoundInOrgErrorResponse, "description": "Not Found"},
    },
    dependencies=limited(Bucket.CREATE, get_member),
)
async def create_agent_run(
    application: App,
    principal: Member,
    request: Request,
    body: CreateAgentRunInput,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Create a run and return at once; poll it for its status.

    The settings may choose the agent by repository or agent type; otherwise the default agent runs it.
    """
    _check_length(body.prompt, application)
    if body.repo_id is not None and body.repo_id not in _REPOSITORIES:
        raise InvalidInput(f"repo_id {body.repo_id} is not the number of a repository")
    await application.agents.expect()
    agent_id = application.agent_router.choose_agent(body.repo_id, body.agent_type)
    if agent_id is None:
        raise NotFound(_NO_REPOS, {"detail": _NO_AGENTS})
    command = CreateRun(
        agent_id=agent_id,
        prompt=body.prompt,
        images=await read_images(body.images, application.settings),
        metadata=body.metadata,
        model=body.model,
        repo_id=body.repo_id,
        webhooks=read_webhooks(body.webhooks, application),
    )
    request_key = read_request_key(principal, idempotency_key, "codegen.create_run", **fields_of(command))
    accepted = await application.service.create_run(principal, command, request_key)
    return await _respond_once(application, request, accepted, request_key)


@router.get(
    "/v1/organizations/{org_id}/agent/run/{agent_run_id}",
    operation_id="get_agent_run_v1_organizations__org_id__agent_run__agent_run_id__get",
    response_model=AgentRunResponse,
    responses=OF_RUNS,
    dependencies=limited(Bucket.READ, get_member),
)
async def get_agent_run(
    application: App, principal: Member, request: Request, agent_run_id: Annotated[int, Path()]
) -> Response:
    """Return a run."""
    with renaming_run_not_found():
        run = await application.service.get_run(principal, RunRef(id=agent_run_id))
    return JSONResponse(agent_run(run, address_of(application, request), for_admin=principal.is_admin))


@router.get(
    "/v1/organizations/{org_id}/agent/runs",
    operation_id="list_agent_runs_v1_organizations__org_id__agent_runs_get",
    response_model=Page[AgentRunResponse],
    responses=OF_MEMBERS,
    dependencies=limited(Bucket.READ, get_member),
)
async def list_agent_runs(  # noqa: PLR0913, PLR0917 - the parameters of the wire
    application: App,
    principal: Member,
    request: Request,
    page: Paging,
    user_id: Annotated[int | None, Query(description="Runs of this user only")] = None,
    source_type: Annotated[ApiAgentRunSourceType | None, Query(description="Runs from there only")] = None,
    status: Annotated[AgentRunStatus | None, Query(description="An extension: runs with this status only")] = None,
) -> Response:
    """Return a page of the organization's runs, newest first."""
    ends = ends_of(status.value) if status is not None else None
    query = ListRuns(user_id, source_type.value if source_type is not None else None, ends, page)
    runs, total = await application.run_lists.list_runs(principal, query)
    address = address_of(application, request)
    return JSONResponse(page_json([agent_run(run, address) for run in runs], total, page))


@router.post(
    "/v1/organizations/{org_id}/agent/run/resume",
    operation_id="resume_agent_run_v1_organizations__org_id__agent_run_resume_post",
    response_model=AgentRunResponse,
    responses={**OF_RUNS, **REFUSED, **CONFLICT},
    dependencies=limited(Bucket.RESUME, get_member),
)
async def resume_agent_run(
    application: App,
    principal: Member,
    request: Request,
    body: ResumeAgentRunInput,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Continue a paused run with the user's prompt and return at once.

    The prompt answers an open question, and rejects open confirmations with itself as the note. ``tools`` decide first;
    with them an empty prompt decides nothing, and the run stays paused while anything is open.
    """
    _check_length(body.prompt, application)
    command = ContinueRun(
        answers=answers_in(body.tools or ()),
        prompt=None if body.tools is not None and not body.prompt.strip() else body.prompt,
        images=await read_images(body.images, application.settings),
        model=body.model,
        webhooks=read_webhooks(body.webhooks, application),
    )
    ref = RunRef(id=body.agent_run_id)
    request_key = read_request_key(
        principal, idempotency_key, "codegen.resume_run", agent_run_id=body.agent_run_id, **fields_of(command)
    )
    with renaming_run_not_found():
        accepted = await application.service.continue_run(principal, ref, command, request_key)
        if not accepted.moved:
            accepted = replace(accepted, run=await application.service.get_run(principal, ref))
    return await _respond_once(application, request, accepted, request_key)


@router.post(
    "/v1/organizations/{org_id}/agent/run/pause",
    operation_id="pause_agent_run_v1_organizations__org_id__agent_run_pause_post",
    response_model=AgentRunResponse,
    responses={**OF_RUNS, **CONFLICT},
    dependencies=limited(Bucket.RESUME, get_member),
)
async def pause_agent_run(application: App, principal: Member, request: Request, body: PauseAgentRunInput) -> Response:
    """Pause a run before its next model or tool call; one that is paused stays as it is. An extension."""
    with renaming_run_not_found():
        run = await application.service.pause_run(principal, RunRef(id=body.agent_run_id))
    return _respond(run, application, request)


_STOPPING: dict[str, Any] = {
    "response_model": StopAgentRunResponse,
    "responses": OF_RUNS,
    "dependencies": limited(Bucket.CHANGE, get_member),
}


@router.post(
    "/v1/organizations/{org_id}/agent/run/ban",
    operation_id="ban_all_checks_for_agent_run_v1_organizations__org_id__agent_run_ban_post",
    **_STOPPING,
)
async def ban_agent_run(application: App, principal: Member, body: StopAgentRunInput) -> Response:
    """Cancel the run. Runs have no pull requests here, so there are no checks to ban."""
    return await _stop(application, principal, body)


@router.post(
    "/v1/organizations/{org_id}/agent/run/remove-from-pr",
    operation_id="remove_codegen_from_pr_v1_organizations__org_id__agent_run_remove_from_pr_post",
    **_STOPPING,
)
async def remove_agent_run_from_pull_request(application: App, principal: Member, body: StopAgentRunInput) -> Response:
    """Cancel the run, as a ban does."""
    return await _stop(application, principal, body)


@router.post(
    "/v1/organizations/{org_id}/agent/run/unban",
    operation_id="unban_all_checks_for_agent_run_v1_organizations__org_id__agent_run_unban_post",
    **_STOPPING,
)
async def unban_agent_run(application: App, principal: Member, body: StopAgentRunInput) -> Response:
    """Change nothing: nothing is banned here."""
    with renaming_run_not_found():
        run = await application.service.get_run(principal, RunRef(id=body.agent_run_id))
    principal.require_agent(run.agent_id)
    return JSONResponse({"message": f"Nothing is banned here. Agent run {run.id} stays {status_word(run)}."})


async def _stop(application: Application, principal: Principal, body: StopAgentRunInput) -> Response:
    with renaming_run_not_found():
        run = await application.service.cancel_run(principal, RunRef(id=body.agent_run_id))
    return JSONResponse({"message": f"Agent run {run.id} has ended: {status_word(run)}."})


async def _respond_once(
    application: Application, request: Request, accepted: Accepted, request_key: RequestKey | None
) -> Response:
    """Return the run; for a key with a stored answer, return that."""

    async def make() -> bytes:
        return bytes(_respond(accepted.run, application, request).body)

    return await respond_once(application, request_key, accepted.answer, make)


def _respond(run: Run, application: Application, request: Request) -> Response:
    return JSONResponse(agent_run(run, address_of(application, request)))


def _check_length(prompt: str, application: Application) -> None:
    longest = application.settings.max_message_chars
    if len(prompt) > longest:
        raise InvalidInput(f"prompt is longer than {longest} characters")
