"""The shapes of Codegen's webhook requests and answers (codegen.md section 3)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from unpause.domain.urls import LONGEST_URL

_LONGEST_SECRET = 10_000


class WebhookOverride(BaseModel):
    """An address that hears of one run instead of the organization's."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(description="Where the messages go")
    secret: str | None = Field(
        default=None, max_length=_LONGEST_SECRET, repr=False, description="Signs by the Standard Webhooks scheme"
    )


class WebhookConfigRequest(BaseModel):
    """Where an organization hears of its runs."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(min_length=1, max_length=LONGEST_URL, json_schema_extra={"format": "uri"})
    secret: str | None = Field(default=None, max_length=_LONGEST_SECRET, repr=False)
    enabled: bool = True


class WebhookConfigResponse(BaseModel):
    """Where an organization hears of its runs; the secret itself is never told."""

    url: str | None
    enabled: bool
    has_secret: bool


class WebhookTestRequest(BaseModel):
    """Where one message goes that tries an address."""

    model_config = ConfigDict(extra="ignore")

    url: str = Field(min_length=1, max_length=LONGEST_URL, json_schema_extra={"format": "uri"})


class WebhookTestResponse(BaseModel):
    """What came of a test: the status that the address answered, or why it counts as a failure."""

    success: bool
    status_code: int | None = None
    error: str | None = None


class WebhookRefusedErrorResponse(BaseModel):
    """An address or a secret that cannot be used."""

    message: str = "The webhook URL must not hold credentials"
    status_code: int = 400
