"""What a run may use of a model, what it used, and how it ends when the model fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai.exceptions import ModelHTTPError, UsageLimitExceeded

from unpause.agents.driver import Failed
from unpause.domain.runs import EndReason

if TYPE_CHECKING:
    from pydantic_ai.usage import RunUsage, UsageLimits

    from unpause.agents.redaction import Redaction

_COUNTED = ("requests", "tool_calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def counted(usage: RunUsage) -> dict[str, int]:
    """Return what is kept of the usage: only counts that are not zero."""
    return {name: count for name in _COUNTED if (count := int(getattr(usage, name) or 0))}


def failure(error: Exception, usage: RunUsage, limits: UsageLimits, redaction: Redaction) -> Failed:
    """Return the end of a run whose model raised this; its message holds no secret."""
    match error:
        case UsageLimitExceeded():
            return _out_of(error, usage, limits)
        case ModelHTTPError():
            # The body is the provider's, and may repeat part of the key it was sent.
            message = f"The model provider answered with status {error.status_code} ({error.model_name})"
        case _:
            message = redaction.clean(str(error) or type(error).__name__)
    return Failed(EndReason.MODEL_ERROR, message, counted(usage))


def _out_of(error: UsageLimitExceeded, usage: RunUsage, limits: UsageLimits) -> Failed:
    if "tokens" in str(error):
        message = f"The run used up its limit of {limits.total_tokens_limit} tokens"
        return Failed(EndReason.TOKEN_LIMIT, message, counted(usage))
    message = f"The run reached its limit of {limits.request_limit} model requests"
    return Failed(EndReason.USAGE_LIMIT, message, counted(usage))
