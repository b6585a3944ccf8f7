"""``GET /metrics``, where the settings serve it beside the API: for tokens with a scope of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response

from unpause.api.errors import agno_body, status_of
from unpause.api.permissions import check_permission, principal_of
from unpause.domain.scopes import METRICS
from unpause.errors import ScopeMissing
from unpause.services.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

    from unpause.services.metrics import Metrics


def add_metrics(app: FastAPI, metrics: Metrics) -> None:
    """Serve the metrics. They are figures of all organizations, and no data of any: agents' names, and numbers."""

    async def get_metrics(request: Request) -> Response:
        try:
            check_permission(principal_of(request), (METRICS,), request)
        except ScopeMissing as error:
            status = status_of(error)
            return JSONResponse(agno_body(status, error.message), status)
        return Response(await metrics.render(), media_type=CONTENT_TYPE)

    app.add_route("/metrics", get_metrics, include_in_schema=False)
