"""Tools of an MCP server that is killed, restarted and changed while runs wait for people."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from pydantic_ai import Agent

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel

_DEADLINE: Final = 30.0
_SERVER: Final = '''
import sys
from mcp.server import MCPServer

server = MCPServer("tickets")


@server.tool(name=sys.argv[2])
def close(ticket: str{parameters}) -> str:
    """Close a ticket."""
    with open("closed", "a") as file:
        file.write(ticket + " ")
    return "closed " + ticket


server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
'''


class Tickets:
    """An MCP server in a process of its own, and an agent that calls its tool ``close``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        # Here: it loads for more than a second, in each process that collects tests.
        mcp = pytest.importorskip("pydantic_ai.mcp", reason="there is no pydantic-ai-slim[mcp]", exc_type=ImportError)
        self.toolset = mcp.MCPToolset(f"http://127.0.0.1:{self._port}/mcp", id="tickets")
        self.script = ScriptedModel([Call("close", {"ticket": "7"}, "c1")])
        self.agent = Agent(self.script.model, name="agent", toolsets=[self.toolset.approval_required()])

    @property
    def closed(self) -> str:
        file = self.folder / "closed"
        return file.read_text() if file.exists() else ""

    def start(self, tool: str = "close", parameters: str = "") -> None:
        """Serve the tool under this name, with these further parameters."""
        self.kill()
        code = _SERVER.replace("{parameters}", parameters)
        command = [sys.executable, "-c", code, str(self._port), tool]
        self._process = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _DEADLINE
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port)).close()
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """End the server without a word."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def tickets(tmp_path: Path) -> Iterator[Tickets]:
    tickets = Tickets(tmp_path)
    try:
        tickets.start()
        yield tickets
    finally:
        tickets.kill()


async def test_an_approval_is_not_spent_on_a_server_that_was_killed(tickets: Tickets) -> None:
    async with driving(tickets.folder, tickets.agent) as server:
        run = await server.run()
        tickets.kill()
        again = await server.confirm(run)
        assert again["status"] == "PAUSED"
        assert again["content"].startswith("The tool close is not available: Client failed to connect")
        tickets.start()
        done = await server.confirm(again)
    assert (done["status"], said_by_tools(done), tickets.closed) == ("COMPLETED", [("close", "closed 7")], "7 ")


@pytest.mark.full
async def test_a_connection_that_breaks_under_an_approved_call_leaves_the_call_in_doubt(tickets: Tickets) -> None:
    async with driving(tickets.folder, tickets.agent) as server:
        run = await server.run()
        # As another run does: it knows the tools, and does not notice the death of the server.
        await tickets.toolset.__aenter__()
        await tickets.toolset.list_tools()
        tickets.kill()
        again = await server.confirm(run)
        with suppress(Exception):
            await tickets.toolset.__aexit__(None, None, None)
        assert (again["status"], again["requirements"][-1]["in_doubt"]) == ("PAUSED", True)
        assert "The tool close is not available: Connection closed. The call may already have run" in again["content"]
        tickets.start()
        done = await server.confirm(again)
    assert (done["status"], tickets.closed) == ("COMPLETED", "7 ")


@pytest.mark.full
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tool": "shut"}, "The tool close is not available: the agent does not have it now"),
        ({"parameters": ", queue: str"}, '"queue" is a required property'),
    ],
    ids=["no such tool", "new parameter"],
)
async def test_a_call_that_the_changed_server_cannot_run_waits_until_it_can_again(
    tickets: Tickets, changed: dict[str, str], reason: str
) -> None:
    async with driving(tickets.folder, tickets.agent) as server:
        run = await server.run()
        tickets.start(**changed)
        again = await server.confirm(run)
        assert (again["status"], tickets.closed) == ("PAUSED", "")
        assert reason in again["content"]
        tickets.start()
        done = await server.confirm(again)
    assert (done["status"], tickets.closed) == ("COMPLETED", "7 ")
