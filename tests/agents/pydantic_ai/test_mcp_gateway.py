"""An MCP server behind a gateway that answers in its place: an approval is not spent on what is no answer of a tool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic_ai import Agent

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel

_CLOSE = {"name": "close", "inputSchema": {"type": "object", "properties": {"ticket": {"type": "string"}}}}


@dataclass
class Gateway:
    """What it does with a call: the status, body and content type of the answer, or the server's own without one."""

    answer: tuple[int, str, str] | None = None
    closed: list[str] = field(default_factory=list)

    def reply(self, request: dict[str, Any]) -> tuple[int, str, str]:
        """Return the answer to a message of the client."""
        params, result = request.get("params", {}), dict[str, object]()
        match request["method"]:
            case "initialize":
                info = {"name": "tickets", "version": "1"}
                version = params["protocolVersion"]
                result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
            case "tools/list":
                result = {"tools": [_CLOSE]}
            case "tools/call":
                if self.answer is not None:
                    return self.answer
                self.closed.append(params["arguments"]["ticket"])
                result = {"content": [{"type": "text", "text": "closed"}]}
        return _json({"result": result, "id": request["id"]})


def _json(message: dict[str, object], status: int = 200) -> tuple[int, str, str]:
    return status, json.dumps({"jsonrpc": "2.0", **message}), "application/json"


@contextmanager
def served(gateway: Gateway) -> Iterator[str]:
    """Serve it during the block; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, text, kind = gateway.reply(request) if "id" in request else (202, "", "text/plain")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_GET(self) -> None:
            self.send_error(405)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()
            thread.join()


def agent_of(url: str) -> Agent[None, str]:
    """Return an agent with the tool, which needs an approval."""
    mcp = pytest.importorskip("pydantic_ai.mcp", reason="there is no pydantic-ai-slim[mcp]", exc_type=ImportError)
    toolset = mcp.MCPToolset(url, id="tickets").approval_required()
    script = ScriptedModel([Call("close", {"ticket": "7"}, "c1")])
    return Agent(script.model, name="agent", toolsets=[toolset])


@pytest.mark.parametrize(
    ("answer", "reason", "in_doubt"),
    [
        ((503, "try later", "text/plain"), "Server returned an error response", True),
        ((200, "<h1>Sign in</h1>", "text/html"), "Unexpected content type: text/html", True),
        ((200, "{", "application/json"), "Failed to parse JSON response", True),
        ((404, "no such backend", "text/plain"), "Not Found. It did not run", False),
    ],
    ids=["away", "page", "no JSON", "unknown"],
)
async def test_an_approval_is_not_spent_on_an_answer_that_is_the_gateways(
    tmp_path: Path, answer: tuple[int, str, str], reason: str, *, in_doubt: bool
) -> None:
    gateway = Gateway()
    with served(gateway) as url:
        async with driving(tmp_path, agent_of(url)) as server:
            run = await server.run()
            gateway.answer = answer
            again = await server.confirm(run)
            assert (again["status"], again["requirements"][-1].get("in_doubt", False)) == ("PAUSED", in_doubt)
            assert again["content"].startswith(f"The tool close is not available: {reason}")
            gateway.answer = None
            done = await server.confirm(again)
    assert (done["status"], said_by_tools(done), gateway.closed) == ("COMPLETED", [("close", "closed")], ["7"])


@pytest.mark.parametrize("error", [{"code": -32603, "message": "no such ticket"}, {"code": -32601, "message": "no"}])
async def test_an_error_of_the_tool_is_the_models_to_read(tmp_path: Path, error: dict[str, object]) -> None:
    gateway = Gateway()
    with served(gateway) as url:
        async with driving(tmp_path, agent_of(url)) as server:
            run = await server.run()
            gateway.answer = _json({"error": error, "id": None}, 500)
            done = await server.confirm(run)
    assert (done["status"], said_by_tools(done)) == ("COMPLETED", [("close", error["message"])])
