"""The ASGI application: both APIs and the health routes, over one run-state service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from unpause.api import notifications
from unpause.api.agentos import approvals, audit, config, follow, sessions
from unpause.api.agentos import runs as agentos_runs
from unpause.api.codegen import audit as codegen_audit
from unpause.api.codegen import identity, logs, setup
from unpause.api.codegen import runs as codegen_runs
from unpause.api.codegen import webhooks as codegen_webhooks
from unpause.api.codegen.wire.examples import add_examples as add_codegen_examples
from unpause.api.codegen.wire.runs import ERRORS as CODEGEN_ERRORS
from unpause.api.console import me, tokens
from unpause.api.console.pages import add_console
from unpause.api.health import router as health_router
from unpause.api.inbox import decisions as inbox_decisions
from unpause.api.inbox import grants
from unpause.api.inbox import models as inbox_models
from unpause.api.inbox import routes as inbox
from unpause.api.metrics import add_metrics
from unpause.api.middleware.authentication import AuthenticationMiddleware, ConcurrencyLimits, Credentials
from unpause.api.middleware.observation import Observation
from unpause.api.middleware.requests import BodyLimit, HeaderLimit, LoopbackOnly, NulCheck, TrailingSlash, local_origins
from unpause.api.middleware.run_links import RunLinks
from unpause.api.middleware.security_headers import SecurityHeaders
from unpause.api.openapi import DESCRIPTION, TAGS, describe_app
from unpause.api.rate_limits import RateLimits
from unpause.api.reference import add_reference
from unpause.api.runs import routes as run_routes
from unpause.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic import BaseModel

    from unpause.bootstrap import Application

_CONTROL_PLANE = ("https://os.agno.com",)

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
)
_NATIVE_MODELS: tuple[type[BaseModel], ...] = (me.MeResponse, *tokens.MODELS, *inbox_models.RESPONSES, *grants.MODELS)


def _describe_models(app: FastAPI) -> None:
    """Complete the document with the models that routes only name, once it is written."""
    write = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        # Most servers never write it.
        from unpause.api.agentos.wire.document import complete  # noqa: PLC0415 - see above
        from unpause.api.runs.models import MODELS as RUN_MODELS  # noqa: PLC0415 - see above

        document = complete(write(), (*CODEGEN_ERRORS, *_NATIVE_MODELS, *RUN_MODELS))
        add_codegen_examples(document)
        return document

    # FastAPI's own way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]


def create_app(application: Application) -> FastAPI:
    """Return the ASGI application; its lifespan runs the application's background work."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with application.running():
            yield

    app = FastAPI(
        title="Unpause",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
        # The spans of requests are ours: those of FastAPI would begin a second one for each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        routes=[route for router in _ROUTERS for route in router.routes],
    )
    app.state.application = application
    app.state.rate_limits = RateLimits(application)
    _describe_models(app)
    describe_app(app)
    add_reference(app)
    if application.settings.console:
        add_console(app)
    if application.settings.metrics:
        add_metrics(app, application.metrics)
    _add_middlewares(app, application)
    return app


def _add_middlewares(app: FastAPI, application: Application) -> None:
    """Wrap the app from inside out: the last one sees a request first."""
    settings = application.settings
    app.add_middleware(
        BodyLimit,
        limit=settings.max_body_bytes,
        plain_limit=settings.max_plain_body_bytes,
        seconds=settings.request_seconds,
    )
    app.add_middleware(
        AuthenticationMiddleware,
        credentials=Credentials(
            application.authenticator, application.tickets, application.console_sessions, settings.public_url
        ),
        limits=ConcurrencyLimits(settings.max_requests, settings.max_streams),
        recheck_seconds=settings.keepalive_seconds,
    )
    if settings.console:
        app.add_middleware(RunLinks)
    app.add_middleware(
        CORSMiddleware,
        # AgentOS's control plane is a web page that sends a token; an open server accepts no page from elsewhere.
        allow_origins=[*settings.cors_origins, *(() if application.authenticator.is_open else _CONTROL_PLANE)],
        # An open server accepts pages of this machine, from any port.
        allow_origin_regex=local_origins(settings.host) if application.authenticator.is_open else None,
        allow_credentials=True,
        allow_methods=["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    if application.authenticator.is_open:
        app.add_middleware(LoopbackOnly, host=settings.host, origins=frozenset(settings.cors_origins))
    app.add_middleware(NulCheck)
    app.add_middleware(HeaderLimit)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observation, access_log=settings.access_log)
    # It replaces the scope, in which the route is noted that the request is observed under.
    app.add_middleware(TrailingSlash)
