"""The ASGI application: all APIs, the console and the health routes, over one run-state service."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from unpause.api.errors import refuse_method
from unpause.api.middleware.authentication import AuthenticationMiddleware, ConcurrencyLimits, Credentials
from unpause.api.middleware.observation import Observation
from unpause.api.middleware.requests import BodyLimit, HeaderLimit, LoopbackOnly, UrlCheck
from unpause.api.middleware.run_links import RunLinks
from unpause.api.middleware.security_headers import SecurityHeaders
from unpause.api.openapi import DESCRIPTION, TAGS
from unpause.api.own_hosts import OwnHosts
from unpause.api.prefix import RoutePath
from unpause.api.rate_limits import RateLimits
from unpause.api.routes import add_routes
from unpause.lazy import LazyModule
from unpause.version import VERSION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unpause.api import document
    from unpause.bootstrap import Application
else:
    document = LazyModule("unpause.api.document")

_CONTROL_PLANE = ("https://os.agno.com",)


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
        exception_handlers={405: refuse_method},
    )
    app.state.application = application
    app.state.rate_limits = RateLimits(application)
    _write_document_late(app)
    _add_middlewares(app, application)
    add_routes(app)
    return app


def _write_document_late(app: FastAPI) -> None:
    """Have the OpenAPI document be completed once it is asked for: most servers never write it."""
    write = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is not None:
            return app.openapi_schema
        return document.complete_document(write())

    # FastAPI's own way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


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
        allow_origin_regex=OwnHosts(settings.host).origins if application.authenticator.is_open else None,
        allow_credentials=True,
        allow_methods=["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"],
        allow_headers=["*"],
        expose_headers=["*"],
    )
    if application.authenticator.is_open:
        app.add_middleware(LoopbackOnly, own=OwnHosts(settings.host), origins=frozenset(settings.cors_origins))
    app.add_middleware(UrlCheck)
    app.add_middleware(HeaderLimit)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(Observation, access_log=settings.access_log)
    # It replaces the scope, in which the route is noted that the request is observed under.
    app.add_middleware(RoutePath)
