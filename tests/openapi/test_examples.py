"""The examples in the OpenAPI document are what the demo sends and understands."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, TypeAlias

import httpx
import pytest

from tests.support.processes import ServerProcess
from tests.support.published import read_document

Json: TypeAlias = dict[str, Any]

RUNS = "/agents/files/runs"
CODEGEN = "/v1/organizations/1/agent"
# What no two runs have in common: ids, times, durations.
_OWN = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|pyd_ai_\w+|\d{4}-\d\d-\d\dT[^"\\]+|\d{10}|\b\d+\.\d+')


@pytest.fixture(scope="module")
def examples() -> Json:
    """Return the values of all examples by name."""
    found: Json = {}

    def collect(part: Any) -> None:  # noqa: ANN401 - any JSON
        if isinstance(part, dict):
            if isinstance(part.get("examples"), dict):
                found.update({name: example["value"] for name, example in part["examples"].items()})
            part = list(part.values())
        if isinstance(part, list):
            for inner in part:
                collect(inner)

    collect(read_document()["paths"])
    return found


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Return a client of a demo server."""
    folder = tmp_path_factory.mktemp("demo")
    with (
        ServerProcess(folder, command="demo") as server,
        httpx.Client(base_url=server.address, timeout=60) as client,
    ):
        yield client


# The first: the others change the session and its files.
def test_the_run_of_the_examples_is_one_of_the_demo(client: httpx.Client, examples: Json) -> None:
    paused = body_of(client.post(RUNS, json=examples["create"]))
    path = f"{RUNS}/{paused['run_id']}"
    to_the_pause = client.get(f"{path}/events").text
    body = addressed(examples["confirm"], paused)
    completed = body_of(client.post(f"{path}/continue", json=body))
    after_the_pause = client.get(f"{path}/events", headers={"Last-Event-ID": "5"}).text

    assert common(paused) == common(examples["paused_run"])
    assert common(to_the_pause) == common(examples["events_to_the_pause"])
    assert common(completed) == common(examples["completed_run"])
    assert common(after_the_pause) == common(examples["events_after_the_pause"])


@pytest.mark.parametrize(("name", "status"), [("create_streamed", 200), ("create_in_background", 202)])
def test_an_example_creates_a_run(client: httpx.Client, examples: Json, name: str, status: int) -> None:
    response = client.post(RUNS, json=examples[name])

    assert response.status_code == status
    if status == 202:
        assert common(response.json()) == common(examples["accepted_run"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("decline", "delete old.log"),
        ("fill_in", "send a report about the budget"),
        ("bring_result", "run ls"),
    ],
)
def test_an_example_continues_a_run(client: httpx.Client, examples: Json, name: str, message: str) -> None:
    paused = body_of(client.post(RUNS, json={"message": message}))
    body = addressed(examples[name], paused)

    assert body_of(client.post(f"{RUNS}/{paused['run_id']}/continue", json=body))["status"] == "COMPLETED"


def test_the_examples_of_forms_create_and_continue_a_run(client: httpx.Client, examples: Json) -> None:
    form = {name: str(value) for name, value in examples["create_form"].items()}
    paused = body_of(client.post(RUNS, files={name: (None, value) for name, value in form.items()}))
    sent = examples["confirm_form"]
    body = addressed({**sent, "tools": json.loads(sent["tools"])}, paused)
    response = client.post(f"{RUNS}/{paused['run_id']}/continue", data={**body, "tools": json.dumps(body["tools"])})

    assert body_of(response)["status"] == "COMPLETED"


@pytest.mark.parametrize("name", ["approve", "reject"])
def test_an_example_resolves_an_approval_and_another_continues_the_run(
    client: httpx.Client, examples: Json, name: str
) -> None:
    paused = body_of(client.post(RUNS, json={"message": "publish old.log"}))
    approval = paused["tools"][0]["approval_id"]
    resolved = body_of(client.post(f"/approvals/{approval}/resolve", json=examples[name]))
    ended = body_of(client.post(f"{RUNS}/{paused['run_id']}/continue", json=examples["after_approval"]))

    if name == "approve":
        assert common(resolved) == common(examples["approved"])
    assert ended["status"] == "COMPLETED"


def test_the_examples_of_codegen_create_a_run_and_confirm_its_call(client: httpx.Client, examples: Json) -> None:
    created = body_of(client.post(f"{CODEGEN}/run", json=examples["codegen_create"]))
    paused = settled(client, created)
    listed = body_of(client.get(f"{CODEGEN}/runs", params={"size": 100}))
    call = body_of(client.get(f"{RUNS}/{paused['web_url'].rpartition('/')[2]}"))["tools"][0]["tool_call_id"]
    body = {**examples["codegen_confirm"], "agent_run_id": created["id"]}
    resumed = body_of(
        client.post(f"{CODEGEN}/run/resume", json={**body, "tools": [{**body["tools"][0], "tool_call_id": call}]})
    )

    assert shown(created) == shown(examples["codegen_active_run"])
    assert shown(paused) == shown(examples["codegen_paused_run"])
    assert shown(listed["items"][0]) == shown(examples["codegen_runs"]["items"][0])
    assert shown(resumed) == shown(examples["codegen_active_run"])
    assert shown(settled(client, created)) == shown(examples["codegen_complete_run"])


def test_the_example_of_codegen_declines_with_the_prompt(client: httpx.Client, examples: Json) -> None:
    created = body_of(client.post(f"{CODEGEN}/run", json=examples["codegen_create"]))
    settled(client, created)
    body_of(client.post(f"{CODEGEN}/run/resume", json={**examples["codegen_decline"], "agent_run_id": created["id"]}))

    assert examples["codegen_decline"]["prompt"] in settled(client, created)["result"]


def settled(client: httpx.Client, run: Json) -> Json:
    """Return Codegen's run once it is no longer under way."""
    while (found := body_of(client.get(f"{CODEGEN}/run/{run['id']}")))["status"] == "ACTIVE":
        time.sleep(0.05)
    return found


def shown(run: Json) -> Json:
    """Return Codegen's run without what is of one run only."""
    return {key: value for key, value in run.items() if key not in {"id", "created_at", "web_url"}}


def body_of(response: httpx.Response) -> Json:
    """Return the JSON of a success."""
    assert response.is_success, response.text
    found: Json = response.json()
    return found


def addressed(example: Json, paused: Json) -> Json:
    """Return the example as an answer to this run."""
    (call,) = paused["tools"]
    tools = [{**tool, "tool_call_id": call["tool_call_id"]} for tool in example["tools"]]
    return {**example, "tools": tools, "pause_id": paused["pause_id"]}


def common(value: Json | str) -> str:
    """Return the JSON, or the text, without what is of one run only."""
    return _OWN.sub("…", value if isinstance(value, str) else json.dumps(value, sort_keys=True))
