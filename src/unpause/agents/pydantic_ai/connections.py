"""Tells a server that is away from a tool that failed: an MCP server's tools are called over a connection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic_ai.toolsets import AbstractToolset, ToolsetTool

# By name: the packages are optional, and have changed theirs. A request that could not connect was not sent.
_NOT_SENT: Final = ("ConnectError", "ConnectTimeout", "ConnectionRefusedError")
_MCP_ERRORS: Final = ("McpError", "MCPError")
# The code that the MCP client gives an error of its own, when the connection closes under a request.
_CONNECTION_CLOSED: Final = -32000
# How errors begin that the MCP client makes itself, and their codes, where what it got is no answer of the protocol:
# a gateway answers while the server behind it restarts. Whether the call may have run.
_NO_ANSWERS: Final = {
    (-32603, "Server returned an error response"): True,
    (-32600, "Unexpected content type: "): True,
    (-32600, "Redirect to "): False,
    (-32700, "Failed to parse "): True,
    # Status 404: the server knows nothing of the session, or is not there yet.
    (-32600, "Session terminated"): False,
    (-32601, "Not Found"): False,
}


@dataclass(frozen=True, slots=True)
class LostConnection:
    """What says that the server is away; the call ``may_have_run`` where the connection broke under it."""

    error: BaseException
    may_have_run: bool


def find_lost_connection(tool: ToolsetTool[Any], error: BaseException) -> LostConnection | None:
    """Return why the server of an MCP tool was not reached; None for an error of the tool, and for other tools."""
    for cause in _causes_of(error):
        may_have_run = _may_have_run(cause)
        if may_have_run is not None:
            return LostConnection(cause, may_have_run) if _is_mcp(tool.toolset) else None
    return None


def _may_have_run(cause: BaseException) -> bool | None:
    """Return whether a call may have run that this is the cause of; None where its server was reached."""
    name = type(cause).__name__
    if name in _NOT_SENT:
        return False
    if name not in _MCP_ERRORS:
        return None
    code, text = getattr(getattr(cause, "error", None), "code", None), str(cause)
    if code == _CONNECTION_CLOSED:
        return True
    found = (ran for (own_code, own), ran in _NO_ANSWERS.items() if code == own_code and text.startswith(own))
    return next(found, None)


def _causes_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all behind it, each once."""
    seen: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        found = rest.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = found.exceptions if isinstance(found, BaseExceptionGroup) else ()
        rest += [found.__context__, found.__cause__, *reversed(inner)]


def _is_mcp(toolset: AbstractToolset[Any]) -> bool:
    leaves: list[AbstractToolset[Any]] = []
    toolset.apply(leaves.append)
    return any(kind.__module__ == "pydantic_ai.mcp" for leaf in leaves for kind in type(leaf).__mro__)
