"""Maps errors to a status, and renders them in the style of each API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route

from unpause.agents.redaction import is_secret_field
from unpause.api.error_texts import text_of
from unpause.api.json import FormOrJsonRequest, StrictRequest
from unpause.api.parameter_texts import ParameterTexts
from unpause.api.parameters import reading_directly
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
    from starlette.types import Scope

    Handler = Callable[[Request], Coroutine[Any, Any, Response]]

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
# The errors in a response, and those that are looked at for it; a longer input is not repeated.
_MAX_ERRORS = 20
_MAX_EXAMINED = 100
_LONGEST_INPUT = 1000
_LONGEST_STEP = 200
_LONGEST_MESSAGE = 4000


def status_of(error: UnpauseError) -> int:
    """Return the status of the response to an error."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def agno_body(status: int, message: str, details: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return the body of an error for AgentOS clients; ``details`` are further keys."""
    del status
    return {**(details or {}), "detail": message}


def codegen_body(status: int, message: str, details: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return the body of an error for Codegen clients."""
    return {**(details or {}), "message": message, "status_code": status}


def body_for(path: str, status: int, message: str) -> dict[str, Any]:
    """Return the body of an error in the style of the path's API."""
    return (codegen_body if path.startswith(CODEGEN_PREFIX) else agno_body)(status, message)


def refusal(scope: Scope, error: UnpauseError) -> JSONResponse:
    """Return the response to an error that comes before the request reaches its route: that of the route, if any."""
    for route in scope["app"].routes:
        if isinstance(route, RenderingRoute) and route.matches(scope)[0] is Match.FULL:
            return route.render(error)
    status = status_of(error)
    return JSONResponse(body_for(scope["path"], status, error.message), status, retry_headers(error))


async def refuse_method(request: Request, _: Exception) -> Response:
    """Answer 405 with all methods of the path: Starlette names those of the first route that has it."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    # `/approvals/count` is no approval.
    fitting = [route for route in fitting if not route.param_convertors] or fitting
    allowed = sorted({method for route in fitting for method in route.methods or ()})
    return JSONResponse({"detail": "Method Not Allowed"}, 405, {"Allow": ", ".join(allowed)})


class RenderingRoute(LimitedRoute):
    """A route that renders errors in the style of its API. Responses to counted requests have the limit's fields."""

    body: Callable[[int, str, Mapping[str, object] | None], dict[str, Any]]
    request_class: type[StrictRequest] = StrictRequest
    # The originals' routes take any parameter; Unpause's own refuse one that they do not have.
    ignores_unknown_parameters = True

    @staticmethod
    def refuse(error: UnpauseError) -> tuple[int, Mapping[str, object]]:
        """Return the status of the response to an error, and further keys of its body."""
        return status_of(error), error.details

    @classmethod
    def render(cls, error: UnpauseError) -> JSONResponse:
        """Return the response to an error."""
        status, details = cls.refuse(error)
        return JSONResponse(cls.body(status, _cut(text_of(error)), details), status, retry_headers(error))

    def get_route_handler(self) -> Handler:
        """Return the handler, with every error turned into a response."""
        handler = reading_directly(self, super().get_route_handler())
        body, request_class = type(self).body, type(self).request_class
        scopes = permission_of(self.methods, self.path_format)
        texts = ParameterTexts(self.dependant, ignores_unknown=self.ignores_unknown_parameters)

        async def answer(request: Request) -> Response:
            try:
                # Before the body is read.
                if scopes:
                    check_permission(principal_of(request), scopes, request)
                texts.check(request)
                return await handler(request_class(request.scope, request.receive))
            except UnpauseError as error:
                return self.render(error)
            except RequestValidationError as error:
                return Response(_validation_body(error), 422, media_type="application/json")
            except HTTPException as error:
                return JSONResponse(body(error.status_code, _cut(str(error.detail)), None), error.status_code)
            except Exception:  # noqa: BLE001 - the boundary around a request: the error is for the log, not for the client
                _log.exception("request failed", method=request.method, path=request.url.path)
                return JSONResponse(body(500, _INTERNAL, None), 500)

        return _adding_rate(answer) if self.limits else answer


def _adding_rate(handler: Handler) -> Handler:
    """Return the handler, with the header fields of the rate limit added to its response."""

    async def answer(request: Request) -> Response:
        response = await handler(request)
        response.headers.update(rate_headers(request))
        return response

    return answer


def _cut(message: str) -> str:
    """Return the message, cut where it repeats a client's long name."""
    return message if len(message) <= _LONGEST_MESSAGE else message[:_LONGEST_MESSAGE] + "…"


def retry_headers(error: UnpauseError) -> dict[str, str] | None:
    """Return the Retry-After header field, where trying again may help."""
    match error:
        case RateLimited():
            return {"Retry-After": str(error.retry_after)}
        case Unavailable() | LeaseLost():
            return {"Retry-After": _RETRY_AFTER_SECONDS}
        case _:
            return None


class AgnoRoute(RenderingRoute):
    """A route of the AgentOS API."""

    body = staticmethod(agno_body)
    request_class = FormOrJsonRequest


class OwnAgnoRoute(AgnoRoute):
    """A route of Unpause's own among those of the AgentOS API."""

    ignores_unknown_parameters = False


class CodegenRoute(RenderingRoute):
    """A route of the Codegen API."""

    body = staticmethod(codegen_body)


class OwnCodegenRoute(CodegenRoute):
    """A route of Unpause's own among those of the Codegen API."""

    ignores_unknown_parameters = False


def _validation_body(error: RequestValidationError) -> bytes:
    """Return the errors without documentation links, without secrets and without anything that is not JSON.

    There are only the first errors, and an input is repeated only where it is short: the cost of a response must not
    grow faster than the request.
    """
    kept = ("type", "loc", "msg", "input", "ctx")
    unique: list[dict[str, Any]] = []
    for item in error.errors()[:_MAX_EXAMINED]:
        found = _without_secrets({key: item[key] for key in kept if key in item})
        # FastAPI reports a parameter once for each dependency that reads it.
        if found not in unique:
            unique.append(found)
    return to_json({"detail": unique[:_MAX_ERRORS]}, inf_nan_mode="null", bytes_mode="base64", fallback=lambda _: None)


def _without_secrets(item: dict[str, Any]) -> dict[str, Any]:
    """Return the error without secrets: neither as the input, nor within it, nor in an unparsed body."""
    rest = {key: value for key, value in item.items() if key != "input"}
    # A key of the client's may be as long as the body.
    rest["loc"] = [step[:_LONGEST_STEP] if isinstance(step, str) else step for step in item["loc"]]
    if "input" not in item or any(map(is_secret_field, rest["loc"])) or item["loc"] == ("body",):
        return rest
    try:
        return {**rest, "input": _InputCopy().copy(item["input"])}
    except _InputTooLong:
        return rest


class _InputTooLong(Exception):
    """The input is too long to repeat."""


class _InputCopy:
    """Copies a short input without its secrets."""

    def __init__(self) -> None:
        self._left = _LONGEST_INPUT

    def copy(self, value: object) -> object:
        """Return the copy; raise _InputTooLong as soon as it exceeds the limit."""
        self._left -= len(value) if isinstance(value, str | bytes) else 1
        if self._left < 0:
            raise _InputTooLong
        if isinstance(value, dict):
            return {key: _HIDDEN if self._is_hidden(key) else self.copy(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.copy(inner) for inner in value]
        return value

    def _is_hidden(self, key: object) -> bool:
        self.copy(key)
        return is_secret_field(key)
