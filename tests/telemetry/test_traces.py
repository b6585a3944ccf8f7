"""A run has one trace, through a pause, a restart and another node, with the spans of model and tools in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext
from pydantic_ai import Agent, InstrumentationSettings
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from tests.support.caller import confirming
from tests.support.reaching import until
from tests.support.server import served
from unpause.cli.logs import _add_trace
from unpause.telemetry.otel import OpenTelemetry
from unpause.telemetry.tracing import Origin, disable_tracing, enable_tracing

_SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
_TRACE = 0x0AF7651916CD43DD8448EB211C80319C


class Spans:
    """What was exported."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def named(self, beginning: str) -> list[ReadableSpan]:
        """Return the spans whose names begin so, in the order in which they ended."""
        return [each for each in self._exporter.get_finished_spans() if each.name.startswith(beginning)]

    def text(self) -> str:
        """Return all that they say."""
        return " ".join(each.to_json() for each in self._exporter.get_finished_spans())


def context_of(span: ReadableSpan) -> SpanContext:
    """Return the span's ids."""
    context = span.get_span_context()
    assert context is not None
    return context


def trace_of(span: ReadableSpan) -> int:
    """Return the id of the span's trace."""
    return context_of(span).trace_id


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    enable_tracing(OpenTelemetry(provider))
    Agent.instrument_all(InstrumentationSettings(tracer_provider=provider, include_content=False))
    yield Spans(exporter)
    Agent.instrument_all(instrument=False)
    disable_tracing()


async def test_a_run_has_one_trace_through_a_pause_and_a_restart(spans: Spans, tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        created = await server.request(
            "POST",
            "/agents/toolbox/runs",
            {"traceparent": _SENT},
            data={"message": json.dumps([[("delete_file", {"path": "canary.txt"})]]), "stream": "false"},
        )
        run = created.json()
        assert run["status"] == "PAUSED"
    async with served(tmp_path) as server:
        assert (await server.continued(run, confirming(run)))["status"] == "COMPLETED"
    [root] = spans.named("create run")
    [request] = spans.named("POST /agents/{agent_id}/runs/{run_id}/continue")
    [continuing] = spans.named("continue run")
    first, second = spans.named("segment toolbox")
    assert trace_of(root) == trace_of(first) == trace_of(second) == _TRACE
    assert trace_of(request) == trace_of(continuing) != _TRACE
    for segment in (first, second):
        assert segment.parent is not None
        assert segment.parent.span_id == context_of(root).span_id
        assert (segment.attributes or {})["unpause.run_id"] == run["run_id"]
    assert [link.context.span_id for link in second.links] == [context_of(continuing).span_id]
    assert first.links == ()
    chats, tools = spans.named("chat"), spans.named("execute_tool")
    assert {trace_of(each) for each in (*chats, *tools)} == {_TRACE}
    assert len(tools) == 1
    assert (request.attributes or {})["http.response.status_code"] == 200
    assert "canary" not in spans.text()


async def test_a_run_that_another_node_claims_stays_in_its_trace(
    spans: Spans, tmp_path: Path, postgres_url: str
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    async with served(one, database_url=postgres_url, worker=False) as server:
        run = await server.begin([])
    async with served(two, database_url=postgres_url) as server:
        assert (await server.settled(run))["status"] == "COMPLETED"
    [root] = spans.named("create run")
    [segment] = spans.named("segment toolbox")
    [claim] = spans.named("claim run")
    assert trace_of(root) == trace_of(segment) == trace_of(claim)
    assert claim.parent is not None
    assert claim.parent.span_id == context_of(segment).span_id


async def test_lines_of_the_log_name_the_trace(spans: Spans, tmp_path: Path) -> None:
    async with served(tmp_path, access_log=True) as server:
        with capture_logs([merge_contextvars, _add_trace]) as lines:
            await server.create([])
    [root] = spans.named("create run")
    for event in ("run ended", "request"):
        [line] = [line for line in lines if line["event"] == event]
        assert line["trace_id"] == f"{trace_of(root):032x}"
        assert len(line["span_id"]) == 16


async def test_without_traces_nothing_is_stored_of_them(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        await server.request("GET", "/agents", {"traceparent": _SENT})
        await server.create([])
        [stored] = [Origin.read(row["trace"]) for row in (await server.dump())["runs"]]
        assert (stored.root, stored.link) == (None, None)


async def test_a_webhook_belongs_to_the_trace_of_its_run(spans: Spans, tmp_path: Path) -> None:
    async with served(tmp_path, webhook_private_targets=True) as server:
        target = await server.request(
            "POST", "/v1/organizations/1/webhooks/agent-run", json={"url": "http://127.0.0.1/"}
        )
        assert target.status_code == 200, target.text
        await server.create([])
        [root] = spans.named("create run")
        await until(lambda: spans.named("deliver webhook"))
    assert trace_of(spans.named("deliver webhook")[0]) == trace_of(root)
