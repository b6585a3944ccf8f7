"""Whether the process is alive, and whether it can do its work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.responses import JSONResponse

from unpause.api.dependencies import App
from unpause.errors import SchemaMismatch, UnpauseError
from unpause.store.schema import check_schema

if TYPE_CHECKING:
    from starlette.responses import Response

router = APIRouter(tags=["Health"])


@router.get("/health", operation_id="health_check")
async def get_health(application: App) -> dict[str, Any]:
    """Say that the process is alive."""
    return {"status": "ok", "instantiated_at": application.started_at.isoformat().replace("+00:00", "Z")}


@router.get("/ready", operation_id="readiness_check", response_model=None)
async def get_ready(application: App) -> Response:
    """Answer 200 when the database answers and has the right schema, else 503 with the reason.

    ``unserved`` are the runs, by agent, that no live process can go on with.
    """
    try:
        await application.database.read(check_schema)
        unserved = await application.unserved.look()
    except SchemaMismatch as error:
        return JSONResponse({"status": "unavailable", "reason": error.message}, 503, {"Retry-After": "5"})
    except UnpauseError as error:
        return JSONResponse({"status": "unavailable", "reason": error.message}, 503, {"Retry-After": "1"})
    # No fault of this node, which other load can go to; but whoever looks has to see what waits for nobody.
    waiting = [{"agent_id": each.agent_id, "pending": each.pending, "paused": each.paused} for each in unserved]
    return JSONResponse({"status": "ready", "unserved": waiting} if waiting else {"status": "ready"})
