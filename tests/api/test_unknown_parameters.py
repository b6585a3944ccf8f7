"""Unpause's own routes refuse a parameter that they do not have; those of AgentOS, Codegen and AG-UI ignore it."""

from __future__ import annotations

import pytest

from tests.support.server import Server

SIMILAR = [
    ("/runs", "statsu", "status"),
    ("/runs", "agent", "agent_id"),
    ("/runs", "Limit", "limit"),
    ("/inbox", "tool", "tool_name"),
    ("/inbox", "in-doubt", "in_doubt"),
    ("/inbox/events", "folow", "follow"),
    ("/grants", "cursr", "cursor"),
    ("/tokens", "limt", "limit"),
    ("/notifications/channels", "limits", "limit"),
    ("/audit", "actoin", "action"),
    ("/v1/organizations/1/audit", "actr", "actor"),
]


@pytest.mark.parametrize(("path", "sent", "meant"), SIMILAR)
async def test_a_misspelt_parameter_lists_nothing_and_is_told_the_right_name(
    path: str, sent: str, meant: str, server: Server
) -> None:
    answer = await server.get(path, **{sent: "x"})
    assert answer.status_code == 422
    [error] = answer.json()["detail"]
    assert (error["type"], error["loc"]) == ("unknown", ["query", sent])
    assert error["msg"] == f"There is no such parameter: did you mean {meant}?"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/overview", "This route has no parameters"),
        ("/tokens", "There is no such parameter; there are cursor, limit"),
    ],
)
async def test_a_parameter_like_none_is_told_which_ones_there_are(path: str, told: str, server: Server) -> None:
    answer = await server.get(path, zzz="x")
    assert [error["msg"] for error in answer.json()["detail"]] == [told]


async def test_a_request_with_an_unknown_parameter_changes_nothing(server: Server) -> None:
    run = await server.run_tools("delete_file")
    for path in (f"/runs/{run['run_id']}/cancel", f"/inbox/{run['requirements'][0]['id']}/decide"):
        answer = await server.request("POST", f"{path}?dry_run=true", json={"decision": "approve"})
        assert answer.status_code == 422
    assert (await server.read(run))["status"] == "PAUSED"


async def test_the_originals_routes_and_front_ends_may_send_what_they_like(server: Server) -> None:
    for path in (
        "/agents",
        "/sessions",
        "/approvals",
        "/config",
        "/health",
        "/ready",
        "/v1/organizations/1/agent/runs",
    ):
        assert (await server.get(path, page_size="x", v="y")).status_code == 200
    run = await server.create("hello")
    # Clients of AgentOS name their user and session wherever they ask for a run.
    for path in ("", "/events"):
        assert (
            await server.get(f"/agents/toolbox/runs/{run['run_id']}{path}", user_id="ada", v="2")
        ).status_code == 200
    answer = await server.post("/agents/toolbox/ag-ui?v=2", {})
    assert {error["loc"][0] for error in answer.json()["detail"]} == {"body"}


async def test_thousands_of_unknown_parameters_are_answered_with_a_few_errors(server: Server) -> None:
    answer = await server.get("/runs?" + "&".join(f"s{number}=" for number in range(1000)))
    assert (answer.status_code, len(answer.json()["detail"])) == (422, 20)
