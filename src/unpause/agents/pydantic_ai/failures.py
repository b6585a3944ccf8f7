"""Limits and usage of a run, and its end when the model or the agent fails."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog
from pydantic_ai.exceptions import AgentRunError, ModelHTTPError, RunCancelled, UsageLimitExceeded
from pydantic_ai.usage import RunUsage, UsageLimits

from unpause.agents.containment import describe_error
from unpause.agents.driver import Failed
from unpause.agents.pydantic_ai.dependencies import DepsFailed
from unpause.domain.runs import EndReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.agents.redaction import Redaction

_log = structlog.get_logger(__name__)

_COUNTED = ("requests", "tool_calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def counted(usage: RunUsage) -> dict[str, int]:
    """Return what is kept of the usage: only counts that are not zero."""
    return {name: count for name in _COUNTED if (count := int(getattr(usage, name) or 0))}


@dataclass
class Meter:
    """Counts what a run has used up, with the model request that is under way."""

    usage: RunUsage
    _requests: int = 0

    def begin_request(self) -> None:
        """Count a request that the model has begun to answer: ``usage`` has it when the answer is complete."""
        self._requests = self.usage.requests + 1

    def counts(self) -> dict[str, int]:
        """Return only what is not zero."""
        counts = counted(self.usage)
        return {**counts, "requests": max(self._requests, self.usage.requests)} if self._requests else counts


class RunLimitReached(UsageLimitExceeded):
    """A limit of the server was reached, and not one that an agent's own code has set."""

    def __init__(self, reason: EndReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.plain_message = message


class ToolLimitReached(AgentRunError):
    """A tool reached a limit that its own code has set, such as that of another agent which it ran."""

    def __init__(self, tool_name: str, message: str) -> None:
        super().__init__(message)
        self.tool_name = tool_name


class _Measured(Protocol):
    @property
    def usage(self) -> RunUsage: ...


@dataclass(repr=False, kw_only=True)
class RunLimits(UsageLimits):
    """The server's limits on one run: only the text of Pydantic AI's exception names the limit that was reached."""

    def check_before_request(self, usage: RunUsage) -> None:
        """Raise RunLimitReached if the next request would go over a limit."""
        self.check_total(usage)
        if self.request_limit is not None and usage.requests >= self.request_limit:
            message = f"The run reached its limit of {self.request_limit} model requests"
            raise RunLimitReached(EndReason.USAGE_LIMIT, message)
        super().check_before_request(usage)

    def check_tokens(self, usage: RunUsage) -> None:
        """Raise RunLimitReached if the run has used more tokens than it may."""
        self.check_total(usage)
        super().check_tokens(usage)

    @contextmanager
    def explained(self, stream: _Measured) -> Iterator[None]:
        """Raise RunLimitReached where the framework finds, between the pieces of an answer, that a limit is reached.

        It does not call ``check_tokens`` there. ``stream`` has the usage of the whole run.
        """
        try:
            yield
        except UsageLimitExceeded:
            self.check_total(stream.usage)
            raise

    def check_total(self, usage: RunUsage) -> None:
        """Raise RunLimitReached if the run has used more tokens than it may in all."""
        if self.total_tokens_limit is not None and usage.total_tokens > self.total_tokens_limit:
            message = f"The run used up its limit of {self.total_tokens_limit} tokens"
            raise RunLimitReached(EndReason.TOKEN_LIMIT, message)


def failure(error: BaseException, usage: RunUsage, redaction: Redaction) -> Failed:
    """Return the end of a run in which this was raised, and log it; neither holds a secret."""
    reason, message = EndReason.MODEL_ERROR, redaction.clean(describe_error(error))
    match error:
        case RunLimitReached():
            # Nothing broke: there is no traceback to read.
            _log.warning("run reached its limit", reason=error.reason.value, detail=error.plain_message)
            return Failed(error.reason, error.plain_message, counted(usage))
        case ToolLimitReached():
            reason, message = EndReason.AGENT_ERROR, f"Tool {error.tool_name} reached a limit of its own: {message}"
        case UsageLimitExceeded():
            reason, message = EndReason.AGENT_ERROR, f"The agent's code reached a limit of its own: {message}"
        case RunCancelled():
            # A cancel by people is a status, and not raised here.
            reason, message = EndReason.AGENT_ERROR, f"The agent's own code ended the run: {message}"
        case DepsFailed():
            reason = EndReason.AGENT_ERROR
        case ModelHTTPError():
            # The body is the provider's, and may repeat part of the key it was sent.
            message = f"The model provider answered with status {error.status_code} ({error.model_name})"
    traceback = redaction.traceback_of(error)
    _log.error("run failed", reason=reason.value, detail=message, exception=traceback)
    return Failed(reason, message, counted(usage), traceback)
