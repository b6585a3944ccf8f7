"""JSON comes back from both databases as it was written, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import to_json
from sqlalchemy import Connection, select

from tests.support.databases import NOW, new_run
from unpause.domain.events import Event, EventType
from unpause.domain.json import dump_json, load_json
from unpause.domain.runs import CallStatus, Message, Outcome, ToolCall, TranscriptEntry
from unpause.store.engine.database import Database
from unpause.store.events import add_events, list_events
from unpause.store.journal import add_messages, add_tool_calls, list_messages, list_tool_calls
from unpause.store.tables import runs

_ODD: dict[str, Any] = {"z": 1e22, "a": {"b": 1, "a": 1.0}, "ü": [2**70, -0.0, 1e-7, "\u2028"], "B": None}


def nested(levels: int) -> Any:  # noqa: ANN401
    """Return so many lists within one another."""
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


async def test_order_and_numbers_are_kept_wherever_models_tools_and_clients_put_them(database_url: str) -> None:
    def unit(connection: Connection) -> list[Any]:
        run = new_run(connection, metadata=_ODD, session_state=_ODD, dependencies=_ODD)
        call = ToolCall("call", "tool", _ODD, 0, 0, NOW, CallStatus.FINISHED, outcome=Outcome.SUCCESS, result=_ODD)
        entry = TranscriptEntry("e", "tool", None, NOW, tool_args=_ODD)
        add_tool_calls(connection, run.id, [call])
        add_messages(connection, run.id, [Message(0, _ODD, (entry,))], NOW)
        add_events(connection, run.id, [Event(EventType.RUN_STARTED, NOW, _ODD)], 1)
        row = connection.execute(select(runs.c.metadata, runs.c.session_state, runs.c.dependencies)).one()
        (kept,) = list_tool_calls(connection, run.id)
        (message,) = list_messages(connection, run.id)
        (event,) = list_events(connection, run.id, 0, 10)
        return [*row, kept.tool_args, kept.result, message.native, message.entries[0].tool_args, event.payload]

    async with Database(database_url).opened() as database:
        found = await database.write(unit)
    assert [to_json(value) for value in found] == [to_json(_ODD)] * 8


async def test_what_is_nested_deeper_than_readers_go_can_still_be_read(database_url: str) -> None:
    def unit(connection: Connection) -> Any:  # noqa: ANN401
        run = new_run(connection, metadata={"deep": nested(240)})
        return connection.execute(select(runs.c.metadata).where(runs.c.id == run.id)).scalar_one()

    async with Database(database_url).opened() as database:
        assert await database.write(unit) == {"deep": nested(240)}


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (nested(254), nested(254)),
        ([float("nan"), float("inf")], ["NaN", "Infinity"]),
        (10**4000, 10**4000),
        ({"a": b"\xff", "b": 2**64}, {"a": "_w==", "b": 2**64}),
    ],
    ids=["deep", "no numbers", "large", "bytes"],
)
def test_whatever_can_be_written_can_be_read(written: object, read: object) -> None:
    assert load_json(dump_json(written)) == read


def test_a_number_with_more_digits_than_python_reads_is_text() -> None:
    assert load_json("[" + "1" * 5000 + "]") == ["1" * 5000]
