"""Codegen's route that creates a run which prepares a repository."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unpause.agents.setup.checkout import find_checkout
from unpause.api.answers import Responses
from unpause.api.codegen.caller import Member, get_member
from unpause.api.codegen.wire.runs import LONGEST_NAME, OF_MEMBERS, REFUSED, Number
from unpause.api.codegen.wire.translate import status_word, web_url
from unpause.api.dependencies import App, address_of
from unpause.api.errors import CodegenRoute
from unpause.api.idempotency import IdempotencyKey, read_request_key, respond_once
from unpause.api.rate_limits import Bucket, limited
from unpause.domain.runs import SETUP_COMMANDS
from unpause.errors import InvalidInput, NotFound
from unpause.services.commands import CreateRun

if TYPE_CHECKING:
    from unpause.bootstrap import Application

_DEFAULT_REQUEST = "Prepare this repository for development."

router = APIRouter(route_class=CodegenRoute, tags=["setup-commands"])

_OFF = "Setup commands are off: the server was started without --workspace-root"
_NO_MODEL = "No model can propose commands: the server needs an agent with a model of its own, or --model"


class GenerateSetupCommandsInput(BaseModel):
    """Which repository to prepare; keys not named here are ignored."""

    model_config = ConfigDict(extra="ignore")

    repo_id: Number
    prompt: str | None = Field(default=None, description="The purpose of the commands, for the model")
    trigger_source: str = Field(
        default="setup-commands", max_length=LONGEST_NAME, description="The trigger, kept in the run's metadata"
    )


class SetupCommandsResponse(BaseModel):
    """The new run: read and resume it like any other."""

    agent_run_id: int
    status: str
    url: str


class RepositoryNotFoundErrorResponse(BaseModel):
    """The repository has no checkout."""

    message: str = "Repository not found"
    status_code: int = 404


_RESPONSES: Responses = {
    **OF_MEMBERS,
    **REFUSED,
    404: {"model": RepositoryNotFoundErrorResponse, "description": "Repository not found"},
    # Codegen's document has it for this operation only, and without a body.
    500: {"description": "Internal Server Error"},
}


@router.post(
    "/v1/organizations/{org_id}/setup-commands/generate",
    operation_id="generate_setup_commands_v1_organizations__org_id__setup_commands_generate_post",
    response_model=SetupCommandsResponse,
    responses=_RESPONSES,
    dependencies=limited(Bucket.SETUP, get_member),
)
async def generate_setup_commands(
    application: App,
    principal: Member,
    request: Request,
    body: GenerateSetupCommandsInput,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Create a run that proposes the commands which prepare a repository's checkout, and runs them one by one.

    It pauses when a command fails, with the command and the end of its output: resume it with corrected commands or
    with advice. Commands that succeeded do not run again.
    """
    command = await _command(body, application)
    request_key = read_request_key(
        principal,
        idempotency_key,
        "codegen.generate_setup_commands",
        repo_id=body.repo_id,
        prompt=body.prompt,
        trigger_source=body.trigger_source,
    )
    accepted = await application.service.create_run(principal, command, request_key)

    async def make() -> bytes:
        run = accepted.run
        url = web_url(run, address_of(application, request))
        return bytes(JSONResponse({"agent_run_id": run.id, "status": status_word(run), "url": url}).body)

    return await respond_once(application, request_key, accepted.answer, make)


async def _command(body: GenerateSetupCommandsInput, application: Application) -> CreateRun:
    """Return the command of the request; raise InvalidInput or NotFound."""
    settings = application.settings
    if settings.workspace_root is None:
        raise InvalidInput(_OFF)
    driver = application.agents.setup_commands
    if driver is None:
        raise InvalidInput(_NO_MODEL)
    if body.prompt is not None and len(body.prompt) > settings.max_message_chars:
        raise InvalidInput(f"prompt is longer than {settings.max_message_chars} characters")
    if await asyncio.to_thread(find_checkout, settings.workspace_root, body.repo_id) is None:
        raise NotFound("Repository not found")
    return CreateRun(
        agent_id=driver.agent_id,
        prompt=body.prompt or _DEFAULT_REQUEST,
        source_type=SETUP_COMMANDS,
        metadata={"trigger_source": body.trigger_source},
        repo_id=body.repo_id,
    )
