"""`/metrics` in Prometheus's own format: what happened to runs, how long it took, and what waits now."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.caller import Caller, confirming
from tests.support.processes import ServerProcess
from tests.support.server import served
from unpause.errors import DatabaseUnavailable

# (name, some labels) and the difference that something made.
Sample = tuple[str, dict[str, str]]


def parsed(text: str) -> Callable[..., float]:
    """Return what looks up the sum of the samples of a name that have these labels."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float:
        found = [each.value for each in samples if each.name == name and labels.items() <= each.labels.items()]
        return sum(found)

    return value


async def scraped(caller: Caller) -> Callable[..., float]:
    """Return what the server shows now."""
    answer = await caller.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"][:10]) == (200, "text/plain")
    return parsed(answer.text)


async def test_a_run_that_pauses_and_goes_on_is_in_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unpause.services.metrics._KEPT_SECONDS", -1.0)
    async with served(tmp_path, metrics=True) as server:
        before = await scraped(server)
        run = await server.create([("delete_file", {"path": "a"})])
        server.clock.move(90)
        paused = await scraped(server)
        await server.continued(run, confirming(run))
        after = await scraped(server)
    waiting = {"agent": "toolbox", "status": "PAUSED"}
    assert [each("unpause_runs", **waiting) for each in (before, paused, after)] == [0, 1, 0]
    assert paused("unpause_oldest_run_age_seconds", **waiting) == 90
    assert paused("unpause_nodes") == 1

    def made(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    triggers = ("create", "claim", "pause", "continue", "complete")
    counted = {trigger: made("unpause_run_transitions_total", trigger=trigger) for trigger in triggers}
    assert counted == {"create": 1, "claim": 2, "pause": 1, "continue": 1, "complete": 1}
    assert made("unpause_runs_ended_total", agent="toolbox", status="COMPLETED") == 1
    assert made("unpause_run_pause_seconds_count") == 1
    # The difference of two sums, to which other tests of this process have added.
    assert made("unpause_run_pause_seconds_sum") == pytest.approx(90)
    assert made("unpause_run_start_seconds_count", trigger="continue") == 1
    assert made("unpause_run_first_event_seconds_count") == 2
    assert made("unpause_segment_seconds_count", agent="toolbox") == 2
    assert made("unpause_tool_call_seconds_count", outcome="success") == 1
    assert made("unpause_database_seconds_count", kind="write") > 0
    assert made("unpause_commit_batch_units_count") > 0
    route = {"method": "POST", "route": "/agents/{agent_id}/runs/{run_id}/continue", "status": "200"}
    assert made("unpause_http_request_seconds_count", **route) == 1
    assert (after("unpause_segments_running"), after("unpause_followers")) == (0, 0)


async def test_what_alarms_look_at_is_there_before_it_happens_for_the_first_time(tmp_path: Path) -> None:
    async with served(tmp_path, metrics=True) as server:
        shown = (await server.get("/metrics")).text
    for sample in (
        'unpause_calls_in_doubt_total{agent="toolbox"}',
        'unpause_deliveries_total{kind="webhook",result="given_up"}',
        'unpause_runs_recovered_total{cause="worker"}',
        'unpause_database_errors_total{error="away"}',
    ):
        assert sample in shown


async def test_labels_have_few_values_whatever_clients_send(tmp_path: Path) -> None:
    async with served(tmp_path, metrics=True) as server:
        for number in range(5):
            await server.get(f"/nothing/like/{number}")
            await server.request(f"MAKE{number}", "/agents")
            await server.get(f"/agents/none/runs/{number}")
        text = (await server.get("/metrics")).text
    assert "nothing" not in text
    assert "MAKE" not in text
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
    routes = {each.labels["route"] for each in samples if "route" in each.labels}
    assert {"other", "/agents/{agent_id}/runs/{run_id}"} <= routes
    assert not any(character.isdigit() for route in routes for character in route.replace("/v1/", "/"))


async def test_the_metrics_are_off_and_need_their_own_scope(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True) as server:
        assert (await server.get("/metrics")).status_code == 404
    async with served(tmp_path, tokens=server.tokens, metrics=True) as server:
        prometheus = await server.add_user(1, "prometheus", "metrics:read")
        assert (await prometheus.get("/metrics")).status_code == 200
        assert (await prometheus.get("/agents")).status_code == 403
        assert (await server.user("alice").get("/metrics")).status_code == 403
        assert (await server.client.get("/metrics")).status_code == 401


async def test_an_administrator_of_one_organization_sees_no_figures_of_all(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, metrics=True) as server:
        boss = await server.add_user(1, "boss", "agent_os:admin")
        assert (await boss.get("/metrics")).status_code == 403
        wanted = {"user_id": "prometheus", "scopes": ["metrics:read"]}
        assert (await boss.request("POST", "/tokens", json=wanted)).status_code == 403
        operator = await server.add_user(1, "operator", "agent_os:admin", "metrics:read")
        made = await operator.request("POST", "/tokens", json=wanted)
        assert made.status_code == 200


async def test_without_the_database_there_are_the_metrics_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    async with served(tmp_path, metrics=True) as server:
        monkeypatch.setattr(server.application.database._storage, "read", away)  # noqa: SLF001 - a lost connection
        found = await scraped(server)
    assert found("unpause_database_up") == 0
    assert found("unpause_database_errors_total", error="away") > 0
    assert found("unpause_nodes") == 0


async def test_a_token_that_has_read_the_metrics_reads_them_while_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    async with served(tmp_path, tokens=True, metrics=True) as server:
        prometheus = await server.add_user(1, "prometheus", "metrics:read", "agents:read")
        late = await server.add_user(1, "late", "metrics:read")
        assert (await prometheus.get("/metrics")).status_code == 200
        server.clock.move(10)
        monkeypatch.setattr(server.application.database._storage, "read", away)  # noqa: SLF001 - a lost connection
        for _ in range(2):
            response = await prometheus.get("/metrics")
            assert (response.status_code, "unpause_database_up 0.0" in response.text) == (200, True)
            assert (await prometheus.get("/agents")).status_code == 503
            assert (await late.get("/metrics")).status_code == 503


async def test_many_scrapes_at_once_query_the_database_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path, metrics=True) as server:
        queried: list[Any] = []
        query = server.application.metrics._query  # noqa: SLF001 - what it costs

        def counted(connection: Any) -> Any:  # noqa: ANN401 - as it is
            queried.append(connection)
            return query(connection)

        monkeypatch.setattr(server.application.metrics, "_query", counted)
        # A slow machine takes longer for five scrapes than the figures are new.
        monkeypatch.setattr("unpause.services.metrics._KEPT_SECONDS", 600.0)
        await asyncio.gather(*(scraped(server) for _ in range(5)))
    assert len(queried) == 1


def test_a_port_of_its_own_serves_them_without_a_token(tmp_path: Path) -> None:
    port = "9741"
    with ServerProcess(tmp_path, "--metrics-port", port, environment={"UNPAUSE_DEV": "false"}) as server:
        with server.client() as client:
            assert client.get("/metrics").status_code == 401
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        found = parsed(text)
        assert (found("unpause_database_up"), found("unpause_nodes")) == (1, 1)
        assert found("process_resident_memory_bytes") > 0
        server.stop()


async def test_a_call_that_a_remembered_approval_decides_is_counted(tmp_path: Path) -> None:
    async with served(tmp_path, metrics=True) as server:
        before = await scraped(server)
        run = await server.run_tools("publish", session_id="s")
        path, remember = f"/inbox/{(await waiting(server))['requirement_id']}/decide", {"scope": "session"}
        assert (await server.post(path, {"decision": "approve", "remember": remember})).status_code == 200
        await server.settled(run)
        assert (await server.run_tools("publish", session_id="s"))["status"] == "COMPLETED"
        after = await scraped(server)
    counted = {"name": "unpause_calls_granted_total", "agent": "toolbox"}
    assert after(**counted) - before(**counted) == 1


async def waiting(caller: Caller) -> dict[str, Any]:
    """Return the only request in the inbox."""
    [item] = (await caller.get("/inbox")).json()["data"]
    found: dict[str, Any] = item
    return found
