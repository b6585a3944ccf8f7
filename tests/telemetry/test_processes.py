"""A server with an agent process: its log is JSON lines and nothing else, and spans of both are in one trace."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.processes import ServerProcess
from tests.support.tokens import first_token, proof

_AGENTS = """
import logging
import os
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

agent = Agent(TestModel(), name="ops")


@agent.tool_plain(requires_approval=True)
def restart(service: str) -> str:
    print('{"event": "run ended", \\x1b[31m')
    logging.getLogger("shop").info("restarting")
    os.write(2, b"native text\\n")
    return "done"
"""


class Collector:
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                """Take spans."""
                data = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    data = gzip.decompress(data)
                for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                    collector.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def named(self, beginning: str) -> list[Span]:
        """Return the spans whose names begin so."""
        return [span for span in self.spans if span.name.startswith(beginning)]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()
    thread.join()


def test_lines_are_json_and_spans_are_in_one_trace_with_agents_in_a_process_of_their_own(
    tmp_path: Path, collector: Collector
) -> None:
    (tmp_path / "agents.py").write_text(_AGENTS, encoding="utf-8")
    environment = {"UNPAUSE_DEV": "false", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    options = ("--agents", "agents.py", "--agent-processes", "1", "--traces")
    with ServerProcess(tmp_path, *options, environment=environment) as server:
        with server.client(headers=proof(first_token(server))) as client:
            run = client.post("/agents/ops/runs", data={"message": "go", "stream": "false"}).json()
            tools = json.dumps([{**run["tools"][0], "confirmed": True}])
            path = f"/agents/ops/runs/{run['run_id']}/continue"
            assert client.post(path, data={"tools": tools, "stream": "false"}).json()["status"] == "COMPLETED"
        server.stop()
        lines: list[dict[str, Any]] = [json.loads(line) for line in server.output.splitlines()]

    printed = [line["text"] for line in lines if line["event"] == "agent process output"]
    assert printed == ['{"event": "run ended", \x1b[31m', "native text"]
    [authors] = [line for line in lines if line.get("logger") == "shop"]
    assert (authors["event"], authors["run_id"]) == ("restarting", run["run_id"])
    events = [line["event"] for line in lines]
    assert {"process starting", "process ready", "process stopping"} <= set(events)
    assert events[-1] == "process stopped"
    assert events.count("run ended") == 1

    [root] = collector.named("create run")
    inside = [*collector.named("segment ops"), *collector.named("chat"), *collector.named("execute_tool restart")]
    assert len(inside) == 5
    assert {span.trace_id for span in inside} == {root.trace_id}
    requests = [span for span in collector.named("POST") if span.trace_id == root.trace_id]
    assert [span.span_id for span in requests] == [root.parent_span_id], "one span for each request"
