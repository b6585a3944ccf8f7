"""What the routes of Unpause's own API have in common: inbox, grants, runs, overview.

Errors are as AgentOS has them, ``{"detail", "error_code"}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.answers import Responses, answer
from unpause.api.dependencies import App, identify_caller
from unpause.api.documented_headers import RATE_LIMIT, RETRY_AFTER
from unpause.api.errors import RenderingRoute, agno_body, status_of
from unpause.domain.principal import Principal
from unpause.errors import RequirementMismatch, RequirementsOpen, UnpauseError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from pydantic import BaseModel

Item = TypeVar("Item")

# The name of this API in the record of a decision.
VIA = "unpause"

# The schemas of AgentOS's errors.
_REFUSALS = {
    400: ("BadRequestResponse", "Bad Request"),
    401: ("UnauthenticatedResponse", "Unauthorized"),
    403: ("ForbiddenResponse", "Forbidden"),
    404: ("NotFoundResponse", "Not Found"),
    422: ("ValidationErrorResponse", "Unprocessable Entity"),
    429: ("TooManyRequestsResponse", "Too Many Requests"),
    500: ("InternalServerErrorResponse", "Internal Server Error"),
    503: ("ServiceUnavailableResponse", "Service Unavailable"),
}

# Every route.
ERRORS: Responses = {
    status: response
    for code, (name, description) in _REFUSALS.items()
    for status, response in answer(name, description, code).items()
}
for _status in (429, 503):
    ERRORS[_status]["headers"] = RETRY_AFTER

# Routes with a rate limit, besides its header fields in other responses.
RATE_LIMITED: Responses = {429: {**ERRORS[429], "headers": {**RETRY_AFTER, **RATE_LIMIT}}}

CONFLICT = answer("ConflictResponse", "Conflict", 409)


class NativeRoute(RenderingRoute):
    """A route of Unpause's own API."""

    body = staticmethod(agno_body)
    ignores_unknown_parameters = False

    @staticmethod
    def refuse(error: UnpauseError) -> tuple[int, Mapping[str, object]]:
        """Return the status of the response to an error, and further keys of its body with the error's code."""
        # An answer that does not fit is a value of the request like any other.
        status = 422 if isinstance(error, RequirementMismatch | RequirementsOpen) else status_of(error)
        return status, {"error_code": error.code.lower(), **error.details}


async def get_caller(request: Request, application: App) -> Principal:
    """Return the caller; where the settings isolate users, it sees nothing of other users. Raises UserMissing."""
    return identify_caller(request, application, VIA)


Caller = Annotated[Principal, Depends(get_caller)]


def page_of(found: Sequence[Item], limit: int) -> tuple[Sequence[Item], Item | None]:
    """Return the items of a page, and its last one if more follow; of ``limit + 1`` items, so that this is known."""
    shown = found[:limit]
    return shown, shown[-1] if len(found) > limit else None


def moment(at: datetime) -> str:
    """Return a time as RFC 3339 has it, in UTC."""
    return at.isoformat().replace("+00:00", "Z")


def model_response(model: BaseModel) -> Response:
    """Return the response with the model as JSON."""
    return Response(model.model_dump_json(by_alias=True), media_type="application/json")
