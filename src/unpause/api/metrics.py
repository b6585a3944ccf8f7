"""``GET /metrics``, where the settings serve it beside the API: for tokens with a scope of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from unpause.api.errors import agno_body, status_of
from unpause.api.permissions import METRICS_PATH, principal_of
from unpause.domain.scopes import METRICS
from unpause.errors import ScopeMissing
from unpause.services.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

    from unpause.services.metrics import Metrics


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Serve the metrics: agents' names, and numbers of all organizations, so an administrator of one has no right."""

    async def get_metrics(request: Request) -> Response:
        if not principal_of(request).sees_metrics:
            error = ScopeMissing(METRICS)
            status = status_of(error)
            return JSONResponse(agno_body(status, error.message), status)
        return Response(await metrics.render(), media_type=CONTENT_TYPE)

    app.add_route(METRICS_PATH, get_metrics, include_in_schema=False)
