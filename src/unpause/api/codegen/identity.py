"""Codegen's routes about users, the organization and its models; other lists of Codegen are empty here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import JSONResponse, Response

from unpause.api.codegen.caller import Caller, Member, get_caller, get_member
from unpause.api.codegen.wire.identity import (
    CLIRulesResponse,
    ModelsResponse,
    OAuthProviderResponse,
    OrganizationIntegrationsResponse,
    OrganizationResponse,
    RepoResponse,
    UserNotFoundErrorResponse,
    UserResponse,
)
from unpause.api.codegen.wire.pages import Page, Paging, page_json
from unpause.api.codegen.wire.runs import EVERYWHERE, OF_MEMBERS
from unpause.api.dependencies import App
from unpause.api.errors import CodegenRoute
from unpause.api.rate_limits import Bucket, limited
from unpause.domain.users import ADMIN
from unpause.errors import ModelNotAllowed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.agents.driver import AgentDriver, ModelName
    from unpause.domain.users import User

router = APIRouter(route_class=CodegenRoute)

_OF_CALLER = limited(Bucket.READ, get_caller)
_OF_MEMBER = limited(Bucket.READ, get_member)


@router.get(
    "/v1/users/me",
    operation_id="get_current_user_info_v1_users_me_get",
    response_model=UserResponse,
    responses=OF_MEMBERS,
    dependencies=_OF_CALLER,
    tags=["users"],
)
async def get_current_user(application: App, principal: Caller) -> Response:
    """Return the caller's user; on an open server that is the first user."""
    return JSONResponse(user_json(await application.users.get_caller(principal)))


@router.get(
    "/v1/organizations",
    operation_id="get_organizations_v1_organizations_get",
    response_model=Page[OrganizationResponse],
    responses=EVERYWHERE,
    dependencies=_OF_CALLER,
    tags=["organizations"],
)
async def list_organizations(application: App, principal: Caller, page: Paging) -> Response:
    """Return the caller's organization: each user is a member of one."""
    organization = await application.users.get_organization(principal)
    settings = {"enable_pr_creation": True, "enable_rules_detection": True}
    found = [{"id": organization.id, "name": organization.name, "settings": settings}]
    return JSONResponse(page_json(found[page.offset : page.offset + page.limit], len(found), page))


@router.get(
    "/v1/organizations/{org_id}/users",
    operation_id="get_users_v1_organizations__org_id__users_get",
    response_model=Page[UserResponse],
    responses=OF_MEMBERS,
    dependencies=_OF_MEMBER,
    tags=["users"],
)
async def list_users(application: App, principal: Member, page: Paging) -> Response:
    """Return a page of the organization's users."""
    users, total = await application.users.list_users(principal, page)
    return JSONResponse(page_json([user_json(user) for user in users], total, page))


@router.get(
    "/v1/organizations/{org_id}/users/{user_id}",
    operation_id="get_user_v1_organizations__org_id__users__user_id__get",
    response_model=UserResponse,
    responses={**OF_MEMBERS, 404: {"model": UserNotFoundErrorResponse, "description": "Not Found"}},
    dependencies=_OF_MEMBER,
    tags=["users"],
)
async def get_user(
    application: App, principal: Member, org_id: Annotated[int, Path()], user_id: Annotated[int, Path()]
) -> Response:
    """Return one user."""
    # A parameter for the order of arguments in generated methods; `Member` checks it.
    del org_id
    return JSONResponse(user_json(await application.users.get_user(principal, user_id)))


@router.get(
    "/v1/organizations/{org_id}/models",
    operation_id="get_available_models_v1_organizations__org_id__models_get",
    response_model=ModelsResponse,
    responses=OF_MEMBERS,
    dependencies=_OF_MEMBER,
    tags=["models"],
)
async def list_models(application: App, principal: Member) -> Response:
    """Return the models for runs of the default agent, by provider."""
    del principal
    await application.agents.expect()
    agent_id = application.agents.default_agent
    if agent_id is None:
        return JSONResponse({"providers": [], "default_model": ""})
    return JSONResponse(_models_of(application.agents.get_agent(agent_id), application.settings.models))


@router.get(
    "/v1/organizations/{org_id}/repos",
    operation_id="get_repositories_v1_organizations__org_id__repos_get",
    response_model=Page[RepoResponse],
    responses=OF_MEMBERS,
    dependencies=_OF_MEMBER,
    tags=["repositories"],
)
async def list_repositories(principal: Member, page: Paging) -> Response:
    """Return no repositories: this server knows only their numbers."""
    del principal
    return JSONResponse(page_json([], 0, page))


@router.get(
    "/v1/organizations/{org_id}/integrations",
    operation_id="get_organization_integrations_endpoint_v1_organizations__org_id__integrations_get",
    response_model=OrganizationIntegrationsResponse,
    responses=OF_MEMBERS,
    dependencies=_OF_MEMBER,
    tags=["integrations"],
)
async def list_integrations(application: App, principal: Member) -> Response:
    """Return no integrations: there are none."""
    organization = await application.users.get_organization(principal)
    body = {
        "organization_id": organization.id,
        "organization_name": organization.name,
        "integrations": [],
        "total_active_integrations": 0,
    }
    return JSONResponse(body)


@router.get(
    "/v1/organizations/{org_id}/cli/rules",
    operation_id="get_cli_rules_v1_organizations__org_id__cli_rules_get",
    response_model=CLIRulesResponse,
    responses=OF_MEMBERS,
    # Codegen's limit of this read is 30 a minute; other reads have 60 in 30 seconds.
    dependencies=limited(Bucket.CHANGE, get_member),
    tags=["cli-rules"],
)
async def get_cli_rules(principal: Member) -> Response:
    """Return no rules: there are none."""
    del principal
    return JSONResponse({"organization_rules": None, "user_custom_prompt": None})


@router.get(
    "/v1/mcp-providers",
    operation_id="get_mcp_providers_v1_mcp_providers_get",
    response_model=list[OAuthProviderResponse],
    responses=EVERYWHERE,
    dependencies=_OF_CALLER,
    tags=["organizations"],
)
async def list_mcp_providers(principal: Caller) -> Response:
    """Return no providers: there are none."""
    del principal
    return JSONResponse([])


def user_json(user: User) -> dict[str, Any]:
    """Return a ``UserResponse`` with all its keys."""
    return {
        "id": user.id,
        "email": user.email,
        "github_user_id": str(user.id),
        "github_username": user.name,
        "avatar_url": None,
        "full_name": user.full_name,
        "role": user.role,
        "is_admin": user.role == ADMIN,
    }


def _models_of(agent: AgentDriver, choices: Sequence[str]) -> dict[str, Any]:
    """Return a ``ModelsResponse``: the agent's own model first, by a name that a run can be created with."""
    own = agent.describe_model(None)
    offered: dict[str, ModelName] = {}
    for choice in choices:
        try:
            offered[choice] = agent.describe_model(choice)
        except ModelNotAllowed:
            # Not every driver supports every model of the settings.
            continue
    default = next((choice for choice, model in offered.items() if model == own), f"{own.provider}:{own.name}")
    providers: dict[str, list[dict[str, str]]] = {}
    for choice, model in {default: own, **offered}.items():
        providers.setdefault(model.provider, []).append({"label": model.name, "value": choice})
    return {
        "providers": [{"name": name, "models": models} for name, models in providers.items()],
        "default_model": default,
    }
