"""The rows of a run's journal: inputs, messages and tool calls, which are added and settled, never rewritten."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from sqlalchemy import bindparam, insert, select, update

from unpause.domain.runs import (
    CallKind,
    CallStatus,
    Image,
    Message,
    Outcome,
    RunInput,
    ToolCall,
    TranscriptEntry,
    is_unprocessed,
)
from unpause.lazy import BUILT_LATE
from unpause.store.engine.statements import Statement
from unpause.store.large_results import fold_message, kept_text, text_of, unfold
from unpause.store.tables import inputs, messages, tool_calls
from unpause.store.unreadable import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.store.engine.statements import Record

_NONE: Mapping[str, ToolCall] = MappingProxyType({})
_ENTRIES = TypeAdapter(tuple[TranscriptEntry, ...], config=BUILT_LATE)
_IMAGES = TypeAdapter(tuple[Image, ...], config=BUILT_LATE)

_INSERT_INPUT = Statement(insert(inputs))
_INPUTS = Statement(select(*inputs.c).where(inputs.c.run_key == bindparam("key")).order_by(inputs.c.position))
_CONSUME = Statement(update(inputs).where(inputs.c.run_key == bindparam("key")).values(consumed=True))
_INSERT_MESSAGES = Statement(insert(messages))
_MESSAGES = Statement(select(*messages.c).where(messages.c.run_key == bindparam("key")).order_by(messages.c.position))
_INSERT_CALLS = Statement(insert(tool_calls))
_SETTLE = Statement(
    update(tool_calls).where(tool_calls.c.run_key == bindparam("key"), tool_calls.c.tool_call_id == bindparam("call"))
)
_CALLS = Statement(
    select(*tool_calls.c)
    .where(tool_calls.c.run_key == bindparam("key"))
    .order_by(tool_calls.c.turn, tool_calls.c.position)
)


def add_input(connection: Connection, run_key: int, added: RunInput, by: str | None, now: datetime) -> None:
    """Add what a user sends for the model: it is pending until a message to the model carries it.

    The first prompt is the run's own, and is added only where images come with it.
    """
    _INSERT_INPUT.send(
        connection,
        {
            "run_key": run_key,
            "position": added.position,
            "prompt": added.prompt,
            "images": _IMAGES.dump_python(added.images, mode="json") or None,
            "created_by": by,
            "created_at": now,
        },
    )


def list_inputs(connection: Connection, run_key: int) -> list[RunInput]:
    """Return what was added to the run by ``add_input``, oldest first."""
    return [
        RunInput(
            position=row["position"],
            prompt=row["prompt"],
            images=_IMAGES.validate_python(row["images"] or ()),
            consumed=row["consumed"],
        )
        for row in _INPUTS.all(connection, {"key": run_key})
    ]


def consume_inputs(connection: Connection, run_key: int) -> None:
    """Mark all prompts so far as carried by a message."""
    _CONSUME.send(connection, {"key": run_key})


def add_messages(
    connection: Connection,
    run_key: int,
    added: Sequence[Message],
    now: datetime,
    large: Mapping[str, ToolCall] = _NONE,
) -> None:
    """Append messages; their positions must follow those that are there.

    ``large`` are the run's calls with large results, by id: those are not stored once more with the messages.
    """
    rows = []
    for message in added:
        entries = _ENTRIES.dump_python(message.entries, mode="json")
        native, folded = fold_message(message.native, entries, large)
        rows.append(
            {
                "run_key": run_key,
                "position": message.position,
                "native": native,
                "entries": folded,
                "created_at": now,
            }
        )
    if rows:
        _INSERT_MESSAGES.send(connection, *rows)


def list_messages(connection: Connection, run_key: int) -> list[Message]:
    """Return the run's messages in order."""
    with readable():
        rows = _MESSAGES.all(connection, {"key": run_key})
        unfold(connection, [(run_key, row[column]) for row in rows for column in ("native", "entries")])
        return [read_message(row) for row in rows]


def read_message(row: Record) -> Message:
    """Return the message of a row; its large results have to be filled in."""
    return Message(position=row["position"], native=row["native"], entries=_ENTRIES.validate_python(row["entries"]))


def add_tool_calls(connection: Connection, run_key: int, added: Iterable[ToolCall]) -> None:
    """Add the calls of one answer of the model."""
    rows = [
        {
            "run_key": run_key,
            "tool_call_id": call.tool_call_id,
            "turn": call.turn,
            "position": call.position,
            "tool_name": call.tool_name,
            "tool_args": call.tool_args,
            "kind": call.kind.value,
            "sent_args": call.sent_args,
            **_progress(call),
            "created_at": call.created_at,
        }
        for call in added
    ]
    if rows:
        _INSERT_CALLS.send(connection, *rows)


def settle_tool_call(connection: Connection, run_key: int, call: ToolCall) -> None:
    """Write how far a call got."""
    named = {"key": run_key, "call": call.tool_call_id}
    _SETTLE.send(connection, {**named, "tool_args": call.tool_args, "sent_args": call.sent_args, **_progress(call)})


def list_tool_calls(connection: Connection, run_key: int) -> list[ToolCall]:
    """Return the run's calls in the order the model made them, without their requirements."""
    with readable():
        return [read_call(row) for row in _CALLS.all(connection, {"key": run_key})]


def _progress(call: ToolCall) -> dict[str, Any]:
    return {
        "status": call.status.value,
        "idempotent": call.idempotent,
        "outcome": call.outcome.value if call.outcome else None,
        "result": call.result,
        "result_text": kept_text(call),
        "started_at": call.started_at,
        "finished_at": call.finished_at,
    }


def read_call(row: Record) -> ToolCall:
    """Return the call of a row."""
    result, text = row["result"], row["result_text"]
    if text is None and result is not None and not is_unprocessed(result):
        text = text_of(result)
    return ToolCall(
        tool_call_id=row["tool_call_id"],
        tool_name=row["tool_name"],
        tool_args=row["tool_args"],
        sent_args=row["sent_args"],
        turn=row["turn"],
        position=row["position"],
        created_at=row["created_at"],
        status=CallStatus(row["status"]),
        idempotent=row["idempotent"],
        outcome=Outcome(row["outcome"]) if row["outcome"] else None,
        result=result,
        result_text=text,
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        kind=CallKind(row["kind"]),
    )
