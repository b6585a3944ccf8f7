"""Whether some process can resume a paused run, and with which model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.runs import RunStatus
from unpause.errors import AgentUnavailable, ModelNotAllowed
from unpause.store.nodes import list_live_agents

if TYPE_CHECKING:
    from unpause.domain.runs import Run
    from unpause.services.context import ServiceContext
    from unpause.store.engine.database import Connection


def refuse_unserved(context: ServiceContext, connection: Connection, run: Run) -> None:
    """Raise AgentUnavailable where nobody could go on with the paused run: the decision must not be spent."""
    if run.status is not RunStatus.PAUSED or context.agents.find_driver(run) is not None:
        return
    if run.agent_id not in list_live_agents(connection, context.node_patience):
        raise AgentUnavailable(run.agent_id)


def model_columns(context: ServiceContext, run: Run, choice: str | None = None) -> dict[str, str]:
    """Return the columns that another model changes; raise ModelNotAllowed for a choice."""
    driver = context.agents.find_driver(run)
    if driver is None or run.status is not RunStatus.PAUSED:
        return {}
    if choice is not None:
        chosen = driver.describe_model(choice)
        return {"model_choice": choice, "model": chosen.name, "model_provider": chosen.provider}
    try:
        # The settings may have changed since the run paused.
        own = driver.describe_model(run.model_choice)
    except ModelNotAllowed:
        return {}
    return {"model": own.name, "model_provider": own.provider}
