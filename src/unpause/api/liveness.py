"""Whether the process is alive. This loads little: a server that starts answers it first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.responses import Response

    from unpause.bootstrap import Application

HEALTH_PATH: Final = "/health"

_DYING = "A background task has died; the process is about to exit"


def answer_health(application: Application) -> Response:
    """Return 200 while the process and its background tasks work, else 503: then it has to be started again."""
    reason = _DYING if application.pulse.has_died else None
    if stalled := application.pulse.list_stalled():
        reason = reason or f"Background tasks have stalled: {', '.join(stalled)}"
    if reason is not None:
        return JSONResponse({"status": "unavailable", "reason": reason}, 503)
    started = application.started_at.isoformat().replace("+00:00", "Z")
    return JSONResponse({"status": "ok", "instantiated_at": started})
