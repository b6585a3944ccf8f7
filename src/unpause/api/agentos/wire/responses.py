"""What AgentOS's routes can answer besides their success, for the OpenAPI document (agno.md section 2)."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

# FastAPI's ``responses``: what can be answered, by status.
Responses = dict[int | str, dict[str, Any]]


class InvalidField(BaseModel):
    """A part of a request that does not fit: where it is, and what is wrong with it."""

    loc: list[str | int]
    msg: str
    type: str


class _ErrorResponse(BaseModel):
    """An error; ``error_code`` is in the original's document, and neither it nor this server ever sends it."""

    detail: str = Field(description="What is wrong")
    error_code: str | None = None


class BadRequestResponse(_ErrorResponse):
    """The request makes no sense as it stands; it changed nothing."""


class UnauthenticatedResponse(_ErrorResponse):
    """Who asks is not known."""


class ForbiddenResponse(_ErrorResponse):
    """Who asks may not do this."""


class NotFoundResponse(_ErrorResponse):
    """What was named does not exist."""


class ConflictResponse(_ErrorResponse):
    """The request came too late; what else it says tells who was first."""


class ValidationErrorResponse(BaseModel):
    """The request does not have the right form.

    The original's document says that ``detail`` is text; the original, and this server, send a list of what is wrong.
    It is text where an Idempotency-Key was used before, for another request.
    """

    detail: str | list[InvalidField]
    error_code: str | None = None


class InternalServerErrorResponse(_ErrorResponse):
    """The server failed."""


# Every route.
ERRORS: Responses = {
    400: {"model": BadRequestResponse, "description": "Bad Request"},
    401: {"model": UnauthenticatedResponse, "description": "Unauthorized"},
    403: {"model": ForbiddenResponse, "description": "Forbidden"},
    404: {"model": NotFoundResponse, "description": "Not Found"},
    422: {"model": ValidationErrorResponse, "description": "Unprocessable Entity"},
    500: {"model": InternalServerErrorResponse, "description": "Internal Server Error"},
}

CONFLICT: Responses = {409: {"model": ConflictResponse, "description": "Conflict"}}

# Routes that stream the events of a run, and those that answer with the run where no stream is wanted.
_FRAMES: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}
STREAM: Responses = {200: {"content": _FRAMES, "description": "The events of the run"}}
RUN: Responses = {
    200: {"content": {"application/json": {"schema": {}}, **_FRAMES}, "description": "The run, or its events"},
    202: {"description": "The run goes on in the background: its ids, to poll for"},
}
