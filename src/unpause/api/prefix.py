"""Where the application is mounted: routes and links know its prefix from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# Starlette's own: ``Request.base_url`` begins with it.
_PREFIX = "app_root_path"


def prefix_of(scope: Scope) -> str:
    """Return the path under which this application is reached, without a trailing slash; usually empty."""
    return str(scope.get(_PREFIX, ""))


def route_path(scope: Scope) -> str:
    """Return the path of the route: without the application's prefix and a trailing slash."""
    prefix, path = scope.get("root_path", "").rstrip("/"), str(scope["path"])
    if prefix and f"{path}/".startswith(f"{prefix}/"):
        path = path[len(prefix) :]
    return path.rstrip("/") or "/"


class RoutePath:
    """Passes each request on under the path of its route: without the application's prefix and a trailing slash.

    What is inside compares whole paths. AgentOS serves both forms of a path, without a redirect.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            prefix, path = scope.get("root_path", "").rstrip("/"), route_path(scope)
            if prefix or path != scope["path"] or _PREFIX in scope:
                scope = {**scope, "path": path, "root_path": "", _PREFIX: prefix}
        await self._app(scope, receive, send)
