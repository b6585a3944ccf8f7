"""The error responses of AgentOS's routes, for the OpenAPI document."""

from __future__ import annotations

from pydantic import BaseModel, Field

from unpause.api.agentos.wire.models.base import nullable
from unpause.api.answers import Responses, answer, events, ref, refusal
from unpause.api.documented_headers import RETRY_AFTER


class InvalidField(BaseModel):
    """An invalid part of a request: its place and the error."""

    loc: list[str | int]
    msg: str
    type: str


class _ErrorResponse(BaseModel):
    """An error; ``error_code`` is in AgentOS's document, but neither AgentOS nor this server sends it."""

    detail: str = Field(description="The error")
    error_code: str | None = nullable()


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
    error_code: str | None = nullable()


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
    **refusal(BadRequestResponse, "Bad Request", 400),
    **refusal(UnauthenticatedResponse, "Unauthorized", 401),
    **refusal(ForbiddenResponse, "Forbidden", 403),
    **refusal(NotFoundResponse, "Not Found", 404),
    **refusal(ValidationErrorResponse, "Unprocessable Entity", 422),
    **refusal(TooManyRequestsResponse, "Too Many Requests", 429, RETRY_AFTER),
    **refusal(InternalServerErrorResponse, "Internal Server Error", 500),
    **refusal(ServiceUnavailableResponse, "Service Unavailable", 503, RETRY_AFTER),
}

# Routes with a form or JSON.
UNSUPPORTED = refusal(BadRequestResponse, "Unsupported Media Type", 415)

CONFLICT = refusal(ConflictResponse, "Conflict", 409)

# Routes that return the run, or with `stream` its events.
RUN: Responses = {
    200: {
        "content": {"application/json": {"schema": ref("RunOutput")}, **events("RunOutputEvent")},
        "description": "The run once it pauses or ends; with `stream` its events",
    },
    **answer("RunAcceptedResponse", "With `background`: the ids to poll for", 202),
}
