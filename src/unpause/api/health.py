"""Liveness and readiness."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.responses import JSONResponse

from unpause.api.answers import answer
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.liveness import HEALTH_PATH, answer_health
from unpause.domain.nodes import Missing, MissingPart

if TYPE_CHECKING:
    from starlette.responses import Response

router = APIRouter(
    # Monitors add parameters of their own. The first answer comes sooner than with FastAPI's own route, which then
    # reads the source of its function.
    route_class=AgnoRoute,
    tags=["Health"],
    responses=answer("NotReadyResponse", "Service Unavailable", 503),
)

# When to ask again: agents, a database and workers come by themselves, a schema is upgraded by somebody.
_RETRY_SOON, _RETRY_LATER = {"Retry-After": "1"}, {"Retry-After": "5"}


@router.get(
    HEALTH_PATH,
    operation_id="health_check",
    response_model=None,
    responses=answer("HealthResponse", "The process is alive"),
)
async def get_health(application: App) -> Response:
    """Answer 200 while the process and its background tasks work, else 503: then it has to be started again."""
    return answer_health(application)


@router.get(
    "/ready",
    operation_id="readiness_check",
    response_model=None,
    responses=answer("ReadyResponse", "The server is ready"),
)
async def get_ready(application: App) -> Response:
    """Answer 200 when the server can serve requests, else 503 with what is ``missing``.

    That is the agents while they are being loaded, the database or its schema, a live process that executes the
    agents that are offered here, or the right time. ``unserved`` counts the runs, by agent, that no live process can
    execute, also those of agents that are not offered here. ``schema`` names the revision of a database that has been
    upgraded by a newer version, or not yet by this one, and works with it.
    """
    found = await application.check_ready()
    # Runs of other agents are not this node's failure, so it stays ready; but an operator has to see them.
    waiting = [{"agent_id": each.agent_id, "pending": each.pending, "paused": each.paused} for each in found.unserved]
    more: dict[str, object] = {"unserved": waiting} if waiting else {}
    if found.schema is not None:
        more["schema"] = asdict(found.schema)
    if not found.missing:
        return JSONResponse({"status": "ready", **more})
    body = {
        "status": "unavailable",
        "reason": found.missing[0].detail,
        "missing": [_shown(each) for each in found.missing],
    }
    is_schema = found.missing[0].part is MissingPart.SCHEMA
    return JSONResponse({**body, **more}, 503, _RETRY_LATER if is_schema else _RETRY_SOON)


def _shown(missing: Missing) -> dict[str, object]:
    agents: dict[str, object] = {"agent_ids": list(missing.agent_ids)} if missing.agent_ids else {}
    return {"part": missing.part.value, "detail": missing.detail, **agents}
