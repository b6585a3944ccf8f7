"""The same conversation step by step: what a client of AgentOS sends field by field, and the rows that it leaves."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from typing import Any, Final

import httpx

from tests.processes.conversation import RUNS, Json, calls_of
from tests.support.frames import Frame, iterate_frames, read_frames
from tests.support.processes import DEADLINE, ServerProcess

TABLES: Final = (
    "sessions",
    "runs",
    "inputs",
    "messages",
    "tool_calls",
    "requirements",
    "approvals",
    "events",
    "idempotency_keys",
)

__all__ = ["RUNS", "Frame", "Json", "calls_of", "iterate_frames", "read_frames"]


def body_of(response: httpx.Response, status: int = 200) -> Json:
    """Return the JSON of an answer of this status."""
    assert response.status_code == status, response.text
    body: Json = response.json()
    return body


def create(client: httpx.Client, script: str, **form: str) -> Json:
    """Make a run; return it as it is when it pauses or ends."""
    return body_of(client.post(RUNS, data={"message": script, "stream": "false", **form}))


def begin(client: httpx.Client, script: str, **form: str) -> Json:
    """Make a run in the background; return its ids."""
    return body_of(client.post(RUNS, data={"message": script, "background": "true", **form}), 202)


def path_of(run: Json) -> str:
    """Return where the API has the run."""
    return f"{RUNS}/{run['run_id']}"


def read(client: httpx.Client, run: Json) -> Json:
    """Return the run as it stands."""
    return body_of(client.get(path_of(run)))


def events_of(client: httpx.Client, run: Json, last_event_id: str = "0") -> list[Frame]:
    """Return the run's events after a number, once it has settled: the stream ends there."""
    return read_frames(client.get(f"{path_of(run)}/events", headers={"Last-Event-ID": last_event_id}).text)


def settled(client: httpx.Client, run: Json) -> Json:
    """Return the run once nobody executes it any more."""
    events_of(client, run)
    return read(client, run)


def tools(run: Json, **changes: object) -> str:
    """Return the `tools` field with the run's open calls, changed like this."""
    waiting = [item for item in run["tools"] if item["requires_confirmation"] or item["external_execution_required"]]
    return json.dumps([{**tool, **changes} for tool in waiting])


def confirming(run: Json) -> str:
    """Return the `tools` field that confirms all open calls."""
    return tools(run, confirmed=True)


def post_continue(client: httpx.Client, run: Json, field: str = "", **form: str) -> httpx.Response:
    """Continue the run."""
    return client.post(f"{path_of(run)}/continue", data={"tools": field, "stream": "false", **form})


def leave_after_first_event(client: httpx.Client, path: str, form: dict[str, str]) -> Frame:
    """Send a streamed request, read its first event and hang up."""
    with client.stream("POST", path, data=form) as response:
        return next(iterate_frames(response.iter_lines()))


def query(server: ServerProcess, statement: str) -> list[Any]:
    """Return what the statement finds in the database, beside the running server."""
    with closing(sqlite3.connect(server.database, timeout=DEADLINE)) as connection, connection:
        return connection.execute(statement).fetchall()


def row_counts(server: ServerProcess) -> dict[str, int]:
    """Return how many rows each table has."""
    return {table: query(server, f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}  # noqa: S608 - our own names


def poll(client: httpx.Client, run: Json, status: str) -> Json:
    """Read the run until it has this status: each look is a request, so the server sets the pace."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = read(client, run)
        if found["status"] == status:
            return found
    message = f"the run did not become {status} in time"
    raise AssertionError(message)
