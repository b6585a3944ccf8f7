"""Codegen's requests and responses about webhooks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from unpause.domain.urls import LONGEST_URL

_LONGEST_SECRET = 10_000


class WebhookOverride(BaseModel):
    """A webhook of one run, instead of the organization's."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(description="Where the messages go")
    secret: str | None = Field(
        default=None,
        max_length=_LONGEST_SECRET,
        repr=False,
        description="Signs messages by the Standard Webhooks scheme",
    )


class WebhookConfigRequest(BaseModel):
    """The webhook of an organization."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(min_length=1, max_length=LONGEST_URL, json_schema_extra={"format": "uri"})
    secret: str | None = Field(default=None, max_length=_LONGEST_SECRET, repr=False)
    enabled: StrictBool = True


class WebhookConfigResponse(BaseModel):
    """The webhook of an organization; the secret itself is never returned."""

    url: str | None
    enabled: bool
    has_secret: bool


class WebhookTestRequest(BaseModel):
    """The URL for a test message."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(min_length=1, max_length=LONGEST_URL, json_schema_extra={"format": "uri"})


class WebhookTestResponse(BaseModel):
    """The result of a test: the response's status, and the error where it failed."""

    success: bool
    status_code: int | None = None
    error: str | None = None


class WebhookRefusedErrorResponse(BaseModel):
    """The URL or the secret is invalid."""

    message: str = "The webhook URL must not contain credentials"
    status_code: int = 400
