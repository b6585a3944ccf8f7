"""Security headers for browsers, with every response."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
# Responses are data. The pages of the API's reference have a policy of their own (``api/reference.py``).
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
_A_YEAR = "max-age=31536000"


class SecurityHeaders:
    """Adds the header fields; with HSTS over TLS, the server's own or that of a trusted proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and add the fields to its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                headers.setdefault("Content-Security-Policy", _NOTHING)
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = _A_YEAR
            await send(message)

        await self._app(scope, receive, send_with_headers)
