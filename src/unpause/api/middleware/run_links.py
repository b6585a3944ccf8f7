"""Leads browsers from a run's address to its page in the console.

`web_url` and links of earlier versions name the route of the API, which is JSON: programs still get that there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse

from unpause.api.permissions import CONSOLE_PATH
from unpause.api.prefix import prefix_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_RUN = re.compile(r"/agents/[^/]+/runs/([^/]+)")
_SEE_OTHER = 303
# A cache must not give the page's address to a program.
_HEADERS = {"Vary": "Accept", "Cache-Control": "no-store"}


class RunLinks:
    """Redirects a request for a run by somebody who opens it as a page; the page asks for a sign-in where needed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with the page's address, or pass the request on."""
        found = _RUN.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "GET" or not _opens_page(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        page = f"{prefix_of(scope)}{CONSOLE_PATH}/runs/{quote(found[1], safe='')}"
        response = RedirectResponse(page, _SEE_OTHER, _HEADERS)
        await response(scope, receive, send)


def _opens_page(headers: Headers) -> bool:
    return "text/html" in headers.get("accept", "") and "authorization" not in headers
