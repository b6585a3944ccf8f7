"""Sessions with a past: completed runs written by the store itself, as the executor would have left them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelRequest, ModelResponse, TextPart
from sqlalchemy import create_engine, event

from unpause.domain.events import Event, EventType
from unpause.domain.json import dump_json, load_json
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.runs import Message, RunInput, RunStatus, TranscriptEntry
from unpause.domain.sessions import NewSession
from unpause.domain.transitions import Trigger
from unpause.store.engine import migrate
from unpause.store.events import add_events
from unpause.store.journal import add_input, add_messages
from unpause.store.runs import insert_run, transition
from unpause.store.sessions import ensure_session

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_PROMPT = "Tell me."


def seed_sessions(database: Path, agent_id: str, sessions: dict[str, int], answer: str) -> None:
    """Give each session this many completed runs with this answer; the file, with its schema, is made if need be.

    Only while no server is writing there.
    """
    url = f"sqlite:///{database}"
    migrate.upgrade(url)
    engine = create_engine(f"sqlite:///{database}", json_serializer=dump_json, json_deserializer=load_json)
    event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA foreign_keys=ON").close())
    native = ModelMessagesTypeAdapter.dump_python(_conversation(answer), mode="json")
    with engine.begin() as connection:
        for session_id, count in sessions.items():
            for number in range(count):
                _add_run(connection, NewSession(session_id, agent_id), answer, native, number)
    engine.dispose()


def _conversation(answer: str) -> list[ModelMessage]:
    return [ModelRequest.user_text_prompt(_PROMPT), ModelResponse([TextPart(answer)], timestamp=_BEGIN)]


def _add_run(connection: Connection, session: NewSession, answer: str, native: list[object], number: int) -> None:
    principal, now = Principal(DEFAULT_ORGANIZATION), _BEGIN + timedelta(seconds=number)
    kept = ensure_session(connection, principal, session, now)
    values = {
        "run_id": str(uuid4()),
        "organization_id": DEFAULT_ORGANIZATION,
        "session_key": kept.key,
        "session_id": session.session_id,
        "agent_id": session.agent_id,
        "source_type": "API",
        "prompt": _PROMPT,
        "created_at": now,
        "updated_at": now,
    }
    run = insert_run(connection, values)
    add_input(connection, run.id, RunInput(0, _PROMPT, consumed=True), None, now)
    roles = (("user", _PROMPT), ("assistant", answer))
    messages = [
        Message(position, native[position], (TranscriptEntry(str(uuid4()), role, text, now),))
        for position, (role, text) in enumerate(roles)
    ]
    add_messages(connection, run.id, messages, now)
    claimed = transition(connection, run.id, Trigger.CLAIM, changes={"updated_at": now}).run
    events = [
        Event(EventType.RUN_STARTED, now),
        Event(EventType.MODEL_REQUEST_STARTED, now),
        Event(EventType.CONTENT_DELTA, now, {"content": answer}),
        Event(EventType.MODEL_REQUEST_COMPLETED, now),
        Event(EventType.CONTENT_COMPLETED, now),
        Event(EventType.RUN_COMPLETED, now, {"content": answer, "content_type": "str", "usage": None}),
    ]
    changes = {"content": answer, "ended_at": now, "updated_at": now, "events": len(events)}
    done = transition(connection, run.id, Trigger.COMPLETE, fence=claimed.fence, changes=changes).run
    assert done.status is RunStatus.COMPLETED
    add_events(connection, run.id, events, done.last_sequence)
