"""The routes of all APIs, and those of the documents, the console and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import APIRoute
from starlette.routing import Route

from unpause.api import notifications
from unpause.api.ag_ui import routes as ag_ui
from unpause.api.agentos import approvals, audit, config, follow, sessions
from unpause.api.agentos import runs as agentos_runs
from unpause.api.codegen import audit as codegen_audit
from unpause.api.codegen import identity, logs, setup
from unpause.api.codegen import runs as codegen_runs
from unpause.api.codegen import webhooks as codegen_webhooks
from unpause.api.console import me, tokens
from unpause.api.console.pages import add_console
from unpause.api.health import router as health_router
from unpause.api.inbox import decisions as inbox_decisions
from unpause.api.inbox import grants
from unpause.api.inbox import routes as inbox
from unpause.api.metrics import add_metrics
from unpause.api.openapi import describe_app
from unpause.api.permissions import PUBLIC
from unpause.api.reference import add_reference
from unpause.api.runs import routes as run_routes

if TYPE_CHECKING:
    from fastapi import FastAPI

    from unpause.bootstrap import Application

# Their routes are used directly: including a router builds each of its routes again at the first request, which
# takes 0.2 seconds.
_ROUTERS = (
    health_router,
    *(part.router for part in (config, agentos_runs, follow, approvals, sessions, audit)),
    *(part.router for part in (me, tokens, run_routes, notifications)),
    *(part.router for part in (codegen_runs, logs, identity, setup, codegen_audit, codegen_webhooks)),
    inbox.router,
    inbox_decisions.router,
    grants.router,
    ag_ui.router,
)


def add_routes(app: FastAPI) -> None:
    """Add all routes to the application."""
    application: Application = app.state.application
    app.router.routes.extend(route for router in _ROUTERS for route in router.routes)
    _answer_head(app)
    describe_app(app)
    add_reference(app)
    if application.settings.console:
        add_console(app)
    if application.settings.metrics:
        add_metrics(app, application.metrics)


def _answer_head(app: FastAPI) -> None:
    """Have load balancers and monitors ask with HEAD, too, which FastAPI answers with 405, unlike Starlette."""
    for route in tuple(app.routes):
        if isinstance(route, APIRoute) and route.path in PUBLIC:
            head = Route(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
            head.app = route.app
            app.router.routes.append(head)
