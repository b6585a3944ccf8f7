"""The error responses of AgentOS's routes, for the OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel, Field

from unpause.api.answers import Responses, answer, events, ref
from unpause.api.documented_headers import RETRY_AFTER


class InvalidField(BaseModel):
    """An invalid part of a request: its place and the error."""

    loc: list[str | int]
    msg: str
    type: str


class _ErrorResponse(BaseModel):
    """An error; ``error_code`` is in AgentOS's document, but neither AgentOS nor this server sends it."""

    detail: str = Field(description="The error")
    error_code: str | None = None


class BadRequestResponse(_ErrorResponse):
    """The request is invalid; it changed nothing."""


class UnauthenticatedResponse(_ErrorResponse):
    """The request has no valid token."""


class ForbiddenResponse(_ErrorResponse):
    """The caller may not do this."""


class NotFoundResponse(_ErrorResponse):
    """The object does not exist."""


class ConflictResponse(_ErrorResponse):
    """The request came too late; further keys name the request that was first."""


class ValidationErrorResponse(BaseModel):
    """The request does not match the schema.

    In AgentOS's document ``detail`` is text; AgentOS and this server send a list of errors. It is text where an
    Idempotency-Key was used before with another request.
    """

    detail: str | list[InvalidField]
    error_code: str | None = None


class TooManyRequestsResponse(_ErrorResponse):
    """The token has too many open requests or streams, or its organization too many unfinished runs."""


class InternalServerErrorResponse(_ErrorResponse):
    """The server failed."""


class ServiceUnavailableResponse(_ErrorResponse):
    """The database is unavailable, or the server is shutting down; further keys may name the run, which goes on."""


class StreamTicket(BaseModel):
    """A ticket to follow one run with, in the query parameter ``ticket``."""

    ticket: str
    expires_at: str = Field(description="When it expires, in ISO 8601")


# Every route.
ERRORS: Responses = {
    400: {"model": BadRequestResponse, "description": "Bad Request"},
    401: {"model": UnauthenticatedResponse, "description": "Unauthorized"},
    403: {"model": ForbiddenResponse, "description": "Forbidden"},
    404: {"model": NotFoundResponse, "description": "Not Found"},
    422: {"model": ValidationErrorResponse, "description": "Unprocessable Entity"},
    429: {"model": TooManyRequestsResponse, "description": "Too Many Requests", "headers": RETRY_AFTER},
    500: {"model": InternalServerErrorResponse, "description": "Internal Server Error"},
    503: {"model": ServiceUnavailableResponse, "description": "Service Unavailable", "headers": RETRY_AFTER},
}

# Routes with a form or JSON.
UNSUPPORTED = answer("BadRequestResponse", "Unsupported Media Type", 415)

CONFLICT: Responses = {409: {"model": ConflictResponse, "description": "Conflict"}}

# Routes that return the run, or with `stream` its events.
RUN: Responses = {
    200: {
        "content": {"application/json": {"schema": ref("RunOutput")}, **events("RunOutputEvent")},
        "description": "The run once it pauses or ends; with `stream` its events",
    },
    **answer("RunAcceptedResponse", "With `background`: the ids to poll for", 202),
}
