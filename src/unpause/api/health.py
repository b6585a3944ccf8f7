"""Liveness and readiness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.responses import JSONResponse

from unpause.api.answers import answer
from unpause.api.dependencies import App
from unpause.errors import SchemaMismatch, UnpauseError

if TYPE_CHECKING:
    from starlette.responses import Response

router = APIRouter(tags=["Health"], responses=answer("NotReadyResponse", "Service Unavailable", 503))

_LOADING = {"status": "unavailable", "reason": "The agents are being loaded"}
_DYING = {"status": "unavailable", "reason": "A background task has died; the process is about to exit"}


@router.get(
    "/health",
    operation_id="health_check",
    response_model=None,
    responses=answer("HealthResponse", "The process is alive"),
)
async def get_health(application: App) -> Response:
    """Answer 200 while the process and its background tasks are alive, else 503."""
    if application.pulse.has_died:
        return JSONResponse(_DYING, 503)
    started = application.started_at.isoformat().replace("+00:00", "Z")
    return JSONResponse({"status": "ok", "instantiated_at": started})


@router.get(
    "/ready",
    operation_id="readiness_check",
    response_model=None,
    responses=answer("ReadyResponse", "The server is ready"),
)
async def get_ready(application: App) -> Response:
    """Answer 200 when agents are loaded and the database answers with the right schema, else 503 with the reason.

    ``unserved`` counts the runs, by agent, that no live process can execute.
    """
    if application.pulse.has_died:
        return JSONResponse(_DYING, 503)
    if not application.agents.is_loaded:
        return JSONResponse(_LOADING, 503, {"Retry-After": "1"})
    try:
        await application.check_schema()
        unserved = await application.unserved.look()
    except SchemaMismatch as error:
        return JSONResponse({"status": "unavailable", "reason": error.message}, 503, {"Retry-After": "5"})
    except UnpauseError as error:
        return JSONResponse({"status": "unavailable", "reason": error.message}, 503, {"Retry-After": "1"})
    # Not this node's failure, so it stays ready; but an operator has to see these runs.
    waiting = [{"agent_id": each.agent_id, "pending": each.pending, "paused": each.paused} for each in unserved]
    return JSONResponse({"status": "ready", "unserved": waiting} if waiting else {"status": "ready"})
