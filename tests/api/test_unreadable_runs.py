"""A run of which a row cannot be read says so to who asks for it, and is in nobody's way."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, update
from sqlalchemy.sql.dml import Update

from tests.support.caller import CODEGEN
from tests.support.server import Server
from unpause.store.tables import events, messages, requirements

_SAID = "This version of the server cannot read the stored run"


@pytest.mark.parametrize(
    "spoiling",
    [
        update(requirements).values(kind="telepathy"),
        update(requirements).values(fields="no list"),
        update(messages).values(entries={"no": "list"}),
    ],
    ids=["kind", "fields", "entries"],
)
async def test_it_is_a_conflict_in_the_shape_of_each_api_and_lists_go_on(server: Server, spoiling: Update) -> None:
    run = await server.create([("delete_file", {"path": "a"})], session_id="s")
    beside = await server.create(session_id="s")

    def spoil(connection: Connection) -> None:
        connection.execute(spoiling)
        connection.execute(update(events).where(events.c.run_key == 1, events.c.sequence == 1).values(type="dream"))

    await server.application.database.write(spoil)
    shown = await server.get(f"/agents/toolbox/runs/{run['run_id']}")
    log = await server.get(f"{CODEGEN}/1/logs")
    listed = await server.get("/sessions/s/runs")
    cancelled = await server.client.post(f"/agents/toolbox/runs/{run['run_id']}/cancel")
    assert (shown.status_code, shown.json()["detail"]) == (409, _SAID)
    # An event of a kind that this version does not know is none that it shows.
    assert (log.status_code, listed.status_code) == (200, 200)
    assert {found["run_id"] for found in listed.json()} == {run["run_id"], beside["run_id"]}
    assert cancelled.status_code == 200
