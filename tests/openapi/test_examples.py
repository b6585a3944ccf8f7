"""The examples in the OpenAPI document are what the demo sends and understands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import httpx
import pytest

from tests.support.processes import ServerProcess
from unpause.cli.documents import openapi_texts

Json: TypeAlias = dict[str, Any]

RUNS = "/agents/files/runs"
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

    collect(json.loads(openapi_texts()["agno"])["paths"])
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
