"""A key by which a service that a tool calls recognizes a call that runs again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic_ai import RunContext

_RUN: Final[ContextVar[str | None]] = ContextVar("unpause_run", default=None)
# The id of the call that runs, and the framework's id of the agent run that made it.
_CALL: Final[ContextVar[tuple[str, str | None] | None]] = ContextVar("unpause_call", default=None)


@contextmanager
def current_run(run_id: str) -> Iterator[None]:
    """Have what runs in the block know the run that it belongs to."""
    token = _RUN.set(run_id)
    try:
        yield
    finally:
        _RUN.reset(token)


@contextmanager
def current_call(call_id: str, ctx: RunContext[Any]) -> Iterator[None]:
    """Have what runs in the block, in its threads and in nested agents know the call that it belongs to."""
    token = _CALL.set((call_id, ctx.run_id))
    try:
        yield
    finally:
        _CALL.reset(token)


def find_outer_call(ctx: RunContext[Any]) -> str | None:
    """Return the id of the call of the same agent run that runs around this one; None for a call of the model's."""
    call_id, framework_run_id = _CALL.get() or (None, None)
    return call_id if framework_run_id == ctx.run_id else None


def idempotency_key(ctx: RunContext[Any]) -> str:
    """Return the key of the running tool call, `run_id:tool_call_id`, to pass to a service that must act only once.

    The key is the same however often this call runs: after a crash, in another process, on another node. No other call
    has it, nor a later call with the same arguments. In an agent that the tool runs, the id of the inner call is added:
    `run_id:tool_call_id:inner_tool_call_id`. An output function has a key as well.

    Without a server, as in a test of the tool alone, the framework's `ctx.run_id` stands for the run.

    Raises `ValueError` where no tool runs.
    """
    run_id, call = _RUN.get() or ctx.run_id, _CALL.get()
    if call is not None:
        call_id, framework_run_id = call
        is_nested = ctx.run_id != framework_run_id and ctx.tool_call_id is not None
        return f"{run_id}:{call_id}:{ctx.tool_call_id}" if is_nested else f"{run_id}:{call_id}"
    if ctx.tool_call_id is None:
        message = "idempotency_key needs the context of a tool call"
        raise ValueError(message)
    return f"{run_id}:{ctx.tool_call_id}"
