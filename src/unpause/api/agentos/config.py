"""AgentOS's routes about the server: its agents, models and configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse

from unpause.api.agentos.caller import Caller
from unpause.api.agentos.replies import json_response
from unpause.api.agentos.wire.responses import ERRORS
from unpause.api.answers import answer, answer_list
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.permissions import CONSOLE_PATH
from unpause.api.prefix import prefix_of
from unpause.version import VERSION

if TYPE_CHECKING:
    from starlette.responses import Response

    from unpause.agents.driver import AgentDriver, ToolDescription

router = APIRouter(route_class=AgnoRoute, responses=ERRORS)

# The id of the only database, which clients send back.
DATABASE_ID = "unpause"


@router.get(
    "/",
    operation_id="get_api_info",
    tags=["Home"],
    response_model=None,
    responses=answer("ApiInfoResponse", "The name and version"),
)
async def get_api_info(request: Request, application: App) -> Response:
    """Return the name and version of the server; send browsers to the console."""
    if application.settings.console and "text/html" in request.headers.get("accept", ""):
        to = f"{prefix_of(request.scope)}{CONSOLE_PATH}"
        return RedirectResponse(to, 303, {"Vary": "Accept", "Cache-Control": "no-store"})
    return json_response({"name": "Unpause", "version": VERSION, "docs": f"{prefix_of(request.scope)}/docs"})


@router.get(
    "/config",
    operation_id="get_config",
    tags=["Core"],
    response_model=None,
    responses=answer("ConfigResponse", "The configuration"),
)
async def get_config(application: App) -> Response:
    """Return the configuration that clients read before they start."""
    await application.agents.expect()
    agents = [
        {"id": agent.agent_id, "name": agent.agent_name, "db_id": DATABASE_ID}
        for agent in application.agents.list_agents()
    ]
    return json_response(
        {
            "os_id": "unpause",
            "description": "Unpause",
            "available_models": [],
            "os_database": DATABASE_ID,
            "databases": [DATABASE_ID],
            "session": _domain(["sessions"]),
            "metrics": {"dbs": []},
            "memory": {"dbs": []},
            "knowledge": {"dbs": [], "knowledge_instances": []},
            "evals": {"dbs": []},
            "traces": {"dbs": []},
            "agents": agents,
            "teams": [],
            "workflows": [],
            "interfaces": [],
        }
    )


@router.get(
    "/agents",
    operation_id="get_agents",
    tags=["Agents"],
    response_model=None,
    responses=answer_list("AgentResponse", "The agents"),
)
async def list_agents(application: App, caller: Caller) -> Response:
    """Return the agents that the caller may see or run."""
    await application.agents.expect()
    agents = application.agents.list_agents()
    return json_response(
        [
            agent_json(agent)
            for agent in agents
            if caller.may("agents:read", agent.agent_id) or caller.may("agents:run", agent.agent_id)
        ]
    )


@router.get(
    "/agents/{agent_id}",
    operation_id="get_agent",
    tags=["Agents"],
    response_model=None,
    responses=answer("AgentResponse", "The agent"),
)
async def get_agent(application: App, agent_id: str) -> Response:
    """Return one agent."""
    await application.agents.expect()
    return json_response(agent_json(application.agents.get_agent(agent_id)))


@router.get(
    "/models",
    operation_id="get_models",
    tags=["Core"],
    response_model=None,
    responses=answer_list("Model", "The models"),
)
async def list_models(application: App) -> Response:
    """Return the models that the agents use, each once."""
    await application.agents.expect()
    models = {(agent.model_name, agent.model_provider): None for agent in application.agents.list_agents()}
    return json_response([{"id": name, "provider": provider} for name, provider in models])


@router.get(
    "/teams",
    operation_id="get_teams",
    tags=["Teams"],
    response_model=None,
    responses=answer_list("TeamResponse", "An empty list"),
)
async def list_teams() -> Response:
    """Return no teams: only agents are served here."""
    return json_response([])


@router.get(
    "/workflows",
    operation_id="get_workflows",
    tags=["Workflows"],
    response_model=None,
    responses=answer_list("WorkflowSummaryResponse", "An empty list"),
)
async def list_workflows() -> Response:
    """Return no workflows: only agents are served here."""
    return json_response([])


def agent_json(agent: AgentDriver) -> dict[str, Any]:
    """Return an agent as AgentOS lists it."""
    return {
        "id": agent.agent_id,
        "name": agent.agent_name,
        "db_id": DATABASE_ID,
        "model": {"name": agent.model_name, "model": agent.model_name, "provider": agent.model_provider},
        "tools": {"tools": [_tool_json(tool) for tool in agent.list_tools()]},
        "sessions": {"session_table": "sessions"},
        "is_component": False,
    }


def _tool_json(tool: ToolDescription) -> dict[str, Any]:
    output = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
        "requires_confirmation": tool.requires_confirmation or None,
        "requires_user_input": tool.requires_user_input or None,
        "external_execution": tool.external_execution or None,
        "approval_type": tool.approval,
    }
    return {key: value for key, value in output.items() if value is not None}


def _domain(tables: list[str]) -> dict[str, Any]:
    return {"dbs": [{"db_id": DATABASE_ID, "domain_config": {"display_name": DATABASE_ID}, "tables": tables}]}
