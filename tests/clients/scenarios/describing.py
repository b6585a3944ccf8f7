"""What the server says of itself."""

from __future__ import annotations

from typing import Any

from tests.clients.scenarios.shown import AGENT, Client, Json


async def everything(client: Client) -> Json:
    """Ask for the configuration, the agents, the teams and the workflows."""
    config = await client.aget_config()
    agents = await client.list_agents()
    agent = await client.aget_agent(AGENT)
    return {
        "config": config.model_dump(mode="json"),
        "agents": [[entry.id, entry.name, entry.db_id] for entry in agents],
        "agent": agent.model_dump(mode="json"),
        "teams": await client.list_teams(),
        "workflows": await client.list_workflows(),
    }


async def models(client: Client) -> list[Any]:
    """Ask for the models; only the older client can."""
    return [model.model_dump(mode="json") for model in await client.get_models()]


async def can_ask_for_models(client: Client) -> bool:
    """Say whether the client can."""
    return hasattr(client, "get_models")
