"""Lets nobody pass who has not said who they are, before anything of the request is read but its header."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from unpause.api.errors import body_for, status_of, when_to_retry
from unpause.api.permissions import CODEGEN_PREFIX, PUBLIC
from unpause.errors import RateLimited, Unauthenticated, UnpauseError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from unpause.auth.callers import Callers
    from unpause.domain.principal import Principal

# codegen.md section 4: the table of errors in its documentation.
_CODEGEN_UNKNOWN = "Invalid or missing API token"
_RETRY_AFTER_SECONDS = 1
# Of IPv6 with a zone; what is longer is none.
_LONGEST_ADDRESS = 64


class Authentication:
    """Finds out who asks and writes it into the request's state; answers 401 where nobody can say.

    One token has at most ``max_open`` requests open at a time: a stream is one as long as it lasts. Over it: 429.
    """

    def __init__(self, app: ASGIApp, callers: Callers, max_open: int) -> None:
        self._app = app
        self._callers = callers
        self._max_open = max_open
        self._open: Counter[str | None] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its principal."""
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._callers.identify(Headers(scope=scope).get("authorization"))
        except UnpauseError as error:
            await _refusal(scope["path"], error)(scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = replace(principal, address=_address(scope))
        if self._callers.is_open:
            await self._app(scope, receive, send)
        else:
            await self._counted(principal, scope, receive, send)

    async def _counted(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        who = principal.credential
        if self._open[who] >= self._max_open:
            await _refusal(scope["path"], RateLimited(_RETRY_AFTER_SECONDS))(scope, receive, send)
            return
        self._open[who] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


def _address(scope: Scope) -> str | None:
    """Return the client's IP address: a proxy's word for it where that is trusted (``cli/serving.py``)."""
    client = scope.get("client")
    return str(client[0])[:_LONGEST_ADDRESS] if client else None


def _refusal(path: str, error: UnpauseError) -> JSONResponse:
    message, status = error.message, status_of(error)
    if isinstance(error, Unauthenticated) and path.startswith(CODEGEN_PREFIX):
        message = _CODEGEN_UNKNOWN
    return JSONResponse(body_for(path, status, message), status, when_to_retry(error))
