"""What a run is made of comes back as it was put in: events, inputs, messages, calls, requirements, sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Connection

from tests.support.databases import NOW, new_run
from unpause.domain.events import Event, EventType
from unpause.domain.forms import InputField
from unpause.domain.principal import Principal, Visibility
from unpause.domain.requirements import Answer, Decision, Requirement, RequirementKind
from unpause.domain.runs import (
    CallStatus,
    Image,
    Message,
    Outcome,
    RunInput,
    RunRef,
    RunStatus,
    ToolCall,
    TranscriptEntry,
)
from unpause.domain.sessions import NewSession
from unpause.errors import Collision, StorageError
from unpause.store.engine.database import Database
from unpause.store.events import add_events, list_events
from unpause.store.journal import (
    add_input,
    add_messages,
    add_tool_calls,
    consume_inputs,
    list_inputs,
    list_messages,
    list_tool_calls,
    settle_tool_call,
)
from unpause.store.requirements import add_answer, add_requirements, list_requirements
from unpause.store.runs import get_run, reserve_sequence
from unpause.store.sessions import ensure_session, list_conversation

_JSON: dict[str, Any] = {
    "text": "grüße 🙂 \u2028 \"quoted\" 'single' \\ back",
    "large": 2**53 + 1,
    "small": -0.5,
    "nothing": None,
    "yes": True,
    "nested": [{"a": []}, {}, ""],
}


async def kept(url: str, unit: Callable[[Connection], Any]) -> Any:  # noqa: ANN401
    """Write in one transaction and return what the unit found."""
    async with Database(url).opened() as database:
        return await database.write(unit)


async def test_events_are_numbered_without_gaps_from_the_reserved_number(database_url: str) -> None:
    def unit(connection: Connection) -> tuple[list[Event], list[Event]]:
        run, other = (new_run(connection, RunStatus.RUNNING, fence=1) for _ in range(2))
        written: list[Event] = []
        for size in (1, 3, 0, 40):
            batch = [Event(EventType.CONTENT_DELTA, NOW, {"n": number} | _JSON) for number in range(size)]
            for holder in (run, other):
                last = reserve_sequence(connection, holder.id, 1, size, NOW).last
                numbered = add_events(connection, holder.id, batch, last)
            written.extend(numbered)
        return written, list_events(connection, run.id, 0, 1000)

    written, found = await kept(database_url, unit)
    assert found == written
    assert [event.sequence for event in found] == list(range(1, 45))


async def test_events_are_read_from_any_number_on_in_pages(database_url: str) -> None:
    def unit(connection: Connection) -> list[list[int]]:
        run = new_run(connection)
        add_events(connection, run.id, [Event(EventType.CONTENT_DELTA, NOW)] * 10, 10)
        return [
            [event.sequence for event in list_events(connection, run.id, after, limit)]
            for after, limit in ((0, 4), (4, 4), (8, 4), (10, 4), (99, 4))
        ]

    assert await kept(database_url, unit) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10], [], []]


async def test_no_number_of_the_log_is_used_twice(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        run = new_run(connection)
        for _ in range(2):
            add_events(connection, run.id, [Event(EventType.CONTENT_DELTA, NOW)], 1)

    with pytest.raises(Collision):
        await kept(database_url, unit)


async def test_inputs_are_kept_with_their_images_until_a_message_carries_them(database_url: str) -> None:
    provided = [RunInput(0, "grüße", (Image("image/png", "aGk="), Image("image/gif", "aG8="))), RunInput(1, "")]

    def unit(connection: Connection) -> tuple[list[RunInput], ...]:
        run, other = new_run(connection), new_run(connection)
        for holder in (run, other):
            for each in provided:
                add_input(connection, holder.id, each, "ada", NOW)
        fresh = list_inputs(connection, run.id)
        consume_inputs(connection, run.id)
        return fresh, list_inputs(connection, run.id), list_inputs(connection, other.id)

    fresh, consumed, untouched = await kept(database_url, unit)
    assert fresh == untouched == provided
    assert consumed == [replace(each, consumed=True) for each in provided]


async def test_messages_come_back_in_order_and_unchanged(database_url: str) -> None:
    entry = TranscriptEntry(
        "id", "tool", "grüße", NOW, (("c", "tool", _JSON),), "c", "tool", {"a": None}, tool_call_error=True
    )
    added = [Message(position, _JSON, (entry,) * position) for position in range(3)]

    def unit(connection: Connection) -> list[Message]:
        run = new_run(connection)
        add_messages(connection, run.id, added[:2], NOW)
        add_messages(connection, run.id, [], NOW)
        add_messages(connection, run.id, added[2:], NOW)
        return list_messages(connection, run.id)

    assert await kept(database_url, unit) == added


async def test_tool_calls_come_back_in_the_order_of_the_model_as_far_as_they_got(database_url: str) -> None:
    calls = [ToolCall(f"c{turn}{spot}", "tool", _JSON, turn, spot, NOW) for turn in (0, 1) for spot in (0, 1)]
    done = replace(
        calls[2],
        status=CallStatus.FINISHED,
        tool_args={"edited": True},
        sent_args=_JSON,
        idempotent=True,
        outcome=Outcome.RETRIED,
        result=_JSON,
        result_text="again",
        started_at=NOW,
        finished_at=NOW + timedelta(microseconds=1),
    )

    def unit(connection: Connection) -> list[ToolCall]:
        run, other = new_run(connection), new_run(connection)
        for holder in (run, other):
            add_tool_calls(connection, holder.id, reversed(calls))
        add_tool_calls(connection, run.id, [])
        settle_tool_call(connection, run.id, done)
        assert list_tool_calls(connection, other.id) == calls
        return list_tool_calls(connection, run.id)

    assert await kept(database_url, unit) == [calls[0], calls[1], done, calls[3]]


def _requirement(name: str) -> Requirement:
    fields = (InputField("to", "str", "Who", None), InputField("n", "int", "", 3, open=False, required=False))
    return Requirement(
        name,
        "pause",
        f"{name}-doubt-2",
        name,
        "tool",
        _JSON,
        RequirementKind.USER_INPUT,
        NOW,
        fields,
        ("a", "b"),
        question=True,
        metadata=_JSON,
        in_doubt=True,
        approval="required",
        message="Really?",
    )


async def test_requirements_come_back_with_the_first_answer_only(database_url: str) -> None:
    requested = [_requirement(name) for name in ("a", "b", "c")]
    first = Answer(Decision.ANSWERED, NOW, "note", _JSON, "result", "ada", "agno")
    second = Answer(Decision.REJECTED, NOW + timedelta(seconds=1), by="eve", via="codegen")

    def unit(connection: Connection) -> tuple[list[Requirement], list[bool]]:
        run = new_run(connection)
        add_requirements(connection, run, requested[:2], 0, NOW)
        add_requirements(connection, run, requested[2:], 2, NOW)
        add_requirements(connection, run, [], 3, NOW)
        sent = [add_answer(connection, "b", answer) for answer in (first, second)]
        return list_requirements(connection, run.id), [*sent, add_answer(connection, "nobody", second)]

    found, sent = await kept(database_url, unit)
    assert sent == [True, False, False]
    assert found == [requested[0], replace(requested[1], answer=first), requested[2]]


async def test_one_call_is_asked_about_once_under_one_id(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        run = new_run(connection)
        add_requirements(connection, run, [_requirement("a")], 0, NOW)
        add_requirements(connection, run, [replace(_requirement("a"), id="another")], 1, NOW)

    with pytest.raises(Collision):
        await kept(database_url, unit)


async def test_moments_come_back_in_utc_whatever_zone_they_were_in(database_url: str) -> None:
    abroad = datetime(2026, 7, 1, 23, 59, 59, 999999, tzinfo=timezone(timedelta(hours=-7)))

    def unit(connection: Connection) -> datetime:
        run = new_run(connection, created_at=abroad)
        return get_run(connection, Visibility(1), RunRef(id=run.id)).created_at

    found = await kept(database_url, unit)
    assert found == abroad
    assert found.utcoffset() == timedelta(0)


async def test_a_moment_without_a_zone_is_refused(database_url: str) -> None:
    with pytest.raises(StorageError) as refused:
        await kept(database_url, lambda connection: new_run(connection, created_at=NOW.replace(tzinfo=None)))
    assert "without a time zone" in str(refused.value.__cause__)
    # The statement is for the log: this text may come to a client.
    assert str(refused.value) == "The database refused a statement"


async def test_a_session_is_made_once_for_each_organization_and_id(database_url: str) -> None:
    def unit(connection: Connection) -> list[int]:
        ada = Principal(1, "ada")
        return [ensure_session(connection, ada, NewSession(name, "agent"), NOW).key for name in ("one", "two", "one")]

    first, second, again = await kept(database_url, unit)
    assert first == again != second


async def test_history_is_the_last_completed_runs_before_this_one_oldest_first(database_url: str) -> None:
    def unit(connection: Connection) -> list[list[Any]]:
        statuses = [RunStatus.COMPLETED, RunStatus.ERROR, RunStatus.COMPLETED, RunStatus.COMPLETED]
        made = [new_run(connection, status, session_id="s") for status in (*statuses, RunStatus.RUNNING)]
        later = new_run(connection, RunStatus.COMPLETED, session_id="s")
        strange = new_run(connection, RunStatus.COMPLETED, session_id="another")
        for run in (*made, later, strange):
            add_messages(connection, run.id, [Message(spot, f"{run.id}.{spot}", ()) for spot in (0, 1)], NOW)
        now = made[-1]
        return [list(list_conversation(connection, now.session_key, now.id, last)[0]) for last in (0, 2, 10)]

    none, two, all_of_them = await kept(database_url, unit)
    assert none == []
    assert two == ["3.0", "3.1", "4.0", "4.1"]
    assert all_of_them == ["1.0", "1.1", *two]
