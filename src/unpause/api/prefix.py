"""Where the application is mounted: routes and links know its prefix from here, and the path of a request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# Starlette's own: ``Request.base_url`` begins with it.
_PREFIX = "app_root_path"
_ABSOLUTE: Final = re.compile(rb"https?://(?P<host>[^/]+)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)


def prefix_of(scope: Scope) -> str:
    """Return the path under which this application is reached, without a trailing slash; usually empty."""
    return str(scope.get(_PREFIX, ""))


def route_path(scope: Scope) -> str:
    """Return the path of the route: without the application's prefix and a trailing slash."""
    prefix, path = scope.get("root_path", "").rstrip("/"), str(scope["path"])
    if prefix and f"{path}/".startswith(f"{prefix}/"):
        path = path[len(prefix) :]
    return path.rstrip("/") or "/"


def _origin_form(scope: Scope) -> Scope:
    """Return the scope of a request for a whole URL as of one for its path, at its host.

    A server accepts such a request, and takes the host from the URL, whatever the Host field says: RFC 9112, 3.2.2.
    """
    found = _ABSOLUTE.fullmatch(scope.get("raw_path") or b"")
    if found is None:
        return scope
    raw = found["path"] or b"/"
    path = unquote_to_bytes(raw).decode(errors="replace")
    others = [field for field in scope["headers"] if field[0] != b"host"]
    return {**scope, "path": path, "raw_path": raw, "headers": [(b"host", found["host"]), *others]}


class RoutePath:
    """Passes each request on under the path of its route: without the application's prefix and a trailing slash.

    What is inside compares whole paths. AgentOS serves both forms of a path, without a redirect.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            if not scope["path"].startswith("/"):
                scope = _origin_form(scope)
            prefix, path = scope.get("root_path", "").rstrip("/"), route_path(scope)
            if prefix or path != scope["path"] or _PREFIX in scope:
                scope = {**scope, "path": path, "root_path": "", _PREFIX: prefix}
        await self._app(scope, receive, send)
