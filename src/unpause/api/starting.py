"""The ASGI application of a server that starts: it answers the health check before the other routes are loaded."""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.routing import Route, Router

from unpause.api.liveness import HEALTH_PATH, answer_health
from unpause.api.middleware.observation import Observation
from unpause.api.middleware.security_headers import SecurityHeaders
from unpause.api.own_hosts import OwnHosts
from unpause.api.prefix import RoutePath, route_path
from unpause.errors import UnpauseError
from unpause.lazy import LazyModule

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from unpause.api import app
    from unpause.bootstrap import Application
else:
    app = LazyModule("unpause.api.app")

_READING: Final = frozenset({"GET", "HEAD"})


class StartingApp:
    """Runs the application's background work, and answers the health check; loads what answers everything else.

    FastAPI and the routes take a third of the time that it takes to load a server. Until they are there, all other
    requests wait for them, and so does a health check that may come from a web page: it may have to be refused.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._own_hosts = OwnHosts(application.settings.host)
        self._early = _early_app(application)
        self._complete: ASGIApp | None = None
        self.failure: UnpauseError | None = None
        """Why the background work could not begin, where the reason is known."""
        self._has_ended = asyncio.Event()

    async def load(self) -> None:
        """Load FastAPI and the routes, in a thread."""
        try:
            # The module is imported in the thread, too.
            self._complete = await asyncio.to_thread(lambda: app.create_app(self._application))
        finally:
            self._has_ended.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        if self._complete is None and self._is_health_check(scope):
            await self._early(scope, receive, send)
            return
        if self._complete is None:
            await self._has_ended.wait()
        if self._complete is None:
            raise RuntimeError("the routes could not be loaded, and the server stops")
        await self._complete(scope, receive, send)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        """Run the background work. Not by Starlette, which has each end but an orderly one logged with a traceback."""
        await receive()
        stage = "startup"
        try:
            async with self._application.running():
                await send({"type": "lifespan.startup.complete"})
                stage = "shutdown"
                await receive()
        except BaseException as error:
            self.failure = error if isinstance(error, UnpauseError) and stage == "startup" else None
            # The command tells a known reason itself. A second Ctrl-C cancels this.
            is_known = self.failure is not None or isinstance(error, asyncio.CancelledError)
            message = "" if is_known else traceback.format_exc().rstrip()
            await send({"type": f"lifespan.{stage}.failed", "message": message})
            raise
        await send({"type": "lifespan.shutdown.complete"})

    def _is_health_check(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] not in _READING or route_path(scope) != HEALTH_PATH:
            return False
        headers = Headers(scope=scope)
        if "origin" in headers:
            return False
        # A page whose host has been given this machine's address sends no Origin to it.
        return not self._application.authenticator.is_open or self._own_hosts.has_host(headers.get("host", ""))


def _early_app(application: Application) -> ASGIApp:
    """Return what answers the health check without FastAPI."""

    async def get_health(_: Request) -> Response:
        return answer_health(application)

    router = Router([Route(HEALTH_PATH, get_health, methods=["GET"])])
    return RoutePath(Observation(SecurityHeaders(router), access_log=application.settings.access_log))
