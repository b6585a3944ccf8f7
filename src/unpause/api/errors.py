"""From an error's class to a status, and from an API's style to the body."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from unpause.agents.redaction import is_secret_field
from unpause.api.error_texts import text_of
from unpause.api.json import StrictRequest
from unpause.api.permissions import CODEGEN_PREFIX, check_permission, permission_of, principal_of
from unpause.api.rate_limits import LimitedRoute, rate_headers
from unpause.errors import (
    Conflict,
    Denied,
    IdempotencyMismatch,
    InvalidOutputSchema,
    LeaseLost,
    NotFound,
    RateLimited,
    RunLimitReached,
    TooLarge,
    Unacceptable,
    Unauthenticated,
    Unavailable,
    UnpauseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from starlette.requests import Request

_log = structlog.get_logger(__name__)

# The first class that fits decides.
_STATUS: tuple[tuple[type[UnpauseError], int], ...] = (
    (IdempotencyMismatch, 422),
    (InvalidOutputSchema, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unacceptable, 400),
    (Unauthenticated, 401),
    (Denied, 403),
    (TooLarge, 413),
    (RateLimited, 429),
    (RunLimitReached, 402),
    (Unavailable, 503),
    (LeaseLost, 503),
)

_INTERNAL = "Internal server error"
_RETRY_AFTER_SECONDS = "1"
_HIDDEN = "**********"
# So many errors are told, of so many that are looked at; an input of more characters is not repeated.
_MOST_ERRORS = 20
_LOOKED_AT_ERRORS = 100
_LONGEST_INPUT = 1000
_LONGEST_STEP = 200
_LONGEST_MESSAGE = 4000


def status_of(error: UnpauseError) -> int:
    """Return the status an error is answered with."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def agno_body(status: int, message: str, details: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return an error body as AgentOS clients read it; ``details`` are further keys."""
    del status
    return {**(details or {}), "detail": message}


def codegen_body(status: int, message: str, details: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return an error body as Codegen clients read it."""
    return {**(details or {}), "message": message, "status_code": status}


def body_for(path: str, status: int, message: str) -> dict[str, Any]:
    """Return an error body in the style of the API that the path belongs to."""
    return (codegen_body if path.startswith(CODEGEN_PREFIX) else agno_body)(status, message)


class _RenderingRoute(APIRoute):
    """A route that answers errors in its API's own shape."""

    body: Callable[[int, str, Mapping[str, object] | None], dict[str, Any]]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with every error turned into an answer."""
        handler = super().get_route_handler()
        body = type(self).body
        wanted = permission_of(self.methods, self.path)

        async def answer(request: Request) -> Response:
            try:
                # Before anything of the body is read.
                if wanted:
                    check_permission(principal_of(request), wanted, request)
                return await handler(StrictRequest(request.scope, request.receive))
            except UnpauseError as error:
                status = status_of(error)
                return JSONResponse(body(status, _cut(text_of(error)), error.details), status, when_to_retry(error))
            except RequestValidationError as error:
                return Response(_validation_body(error), 422, media_type="application/json")
            except HTTPException as error:
                return JSONResponse(body(error.status_code, _cut(str(error.detail)), None), error.status_code)
            except Exception:  # noqa: BLE001 - the boundary around a request: the client learns that it failed, not how
                _log.exception("request failed", method=request.method, path=request.url.path)
                return JSONResponse(body(500, _INTERNAL, None), 500)

        return answer


def _cut(message: str) -> str:
    """Return the message; one that repeats a client's long name is cut."""
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def when_to_retry(error: UnpauseError) -> dict[str, str] | None:
    """Return the header field that says when to try again, where that may help."""
    match error:
        case RateLimited():
            return {"Retry-After": str(error.retry_after)}
        case Unavailable() | LeaseLost():
            return {"Retry-After": _RETRY_AFTER_SECONDS}
        case _:
            return None


class AgnoRoute(_RenderingRoute):
    """A route of the AgentOS API."""

    body = staticmethod(agno_body)


class CodegenRoute(_RenderingRoute, LimitedRoute):
    """A route of the Codegen API. Every answer to a request that was counted says how much is left."""

    body = staticmethod(codegen_body)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, with the header fields of the limit added to what it answers."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            response = await handler(request)
            response.headers.update(rate_headers(request))
            return response

        return answer


def _validation_body(error: RequestValidationError) -> bytes:
    """Return what is wrong, without the documentation links, without secrets and without anything that is not JSON.

    The first errors are enough to go on with, and an input is repeated only where it is short: what a request costs
    must not grow faster than the request.
    """
    kept = ("type", "loc", "msg", "input", "ctx")
    once: list[dict[str, Any]] = []
    for item in error.errors()[:_LOOKED_AT_ERRORS]:
        found = _without_secrets({key: item[key] for key in kept if key in item})
        # FastAPI says the same of a parameter once for each dependency that reads it.
        if found not in once:
            once.append(found)
    return to_json({"detail": once[:_MOST_ERRORS]}, inf_nan_mode="null", bytes_mode="base64", fallback=lambda _: None)


def _without_secrets(item: dict[str, Any]) -> dict[str, Any]:
    """Return an error that does not say a secret again: not as the input, not within it, not in a body as it came."""
    rest = {key: value for key, value in item.items() if key != "input"}
    # A key of the client's own may be as long as its body.
    rest["loc"] = [step[:_LONGEST_STEP] if isinstance(step, str) else step for step in item["loc"]]
    if "input" not in item or any(map(is_secret_field, rest["loc"])) or item["loc"] == ("body",):
        return rest
    try:
        return {**rest, "input": _Repeated().copy(item["input"])}
    except _TooLong:
        return rest


class _TooLong(Exception):
    """An input is too long to be repeated."""


class _Repeated:
    """Copies a short input without its secrets."""

    def __init__(self) -> None:
        self._left = _LONGEST_INPUT

    def copy(self, value: object) -> object:
        """Return the copy; raise _TooLong as soon as it turns out to be longer than an answer should be."""
        self._left -= len(value) if isinstance(value, str | bytes) else 1
        if self._left < 0:
            raise _TooLong
        if isinstance(value, dict):
            return {key: _HIDDEN if self._is_hidden(key) else self.copy(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.copy(inner) for inner in value]
        return value

    def _is_hidden(self, key: object) -> bool:
        self.copy(key)
        return is_secret_field(key)
