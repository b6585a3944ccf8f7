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


@dataclass(frozen=True, slots=True)
class LostConnection:
    """What says that the server is away; the call ``may_have_run`` where the connection broke under it."""

    error: BaseException
    may_have_run: bool


def find_lost_connection(tool: ToolsetTool[Any], error: BaseException) -> LostConnection | None:
    """Return why the server of an MCP tool was not reached; None for an error of the tool, and for other tools."""
    causes = list(_causes_of(error))
    for cause in causes:
        name = type(cause).__name__
        if name in _NOT_SENT or (name in _MCP_ERRORS and _code_of(cause) == _CONNECTION_CLOSED):
            return LostConnection(cause, name not in _NOT_SENT) if _is_mcp(tool.toolset) else None
    return None


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


def _code_of(error: BaseException) -> object:
    return getattr(getattr(error, "error", None), "code", None)


def _is_mcp(toolset: AbstractToolset[Any]) -> bool:
    leaves: list[AbstractToolset[Any]] = []
    toolset.apply(leaves.append)
    return any(kind.__module__ == "pydantic_ai.mcp" for leaf in leaves for kind in type(leaf).__mro__)
