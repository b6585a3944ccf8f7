"""Answers AG-UI's requests with streams. It is imported with the first of them: the protocol's models take long."""

from __future__ import annotations

import re
from json import JSONDecodeError
from typing import TYPE_CHECKING, NamedTuple

from ag_ui.core import (
    PROTOCOL_VERSION,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StateSnapshotEvent,
)
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from unpause.api.ag_ui.accepting import RunRequest, alias_key
from unpause.api.ag_ui.wire.events import Names, Translator
from unpause.api.ag_ui.wire.inputs import read_input
from unpause.api.ag_ui.wire.interrupts import outcome_of
from unpause.api.ag_ui.wire.messages import snapshot_of
from unpause.api.ag_ui.wire.older_clients import for_older_client
from unpause.api.ag_ui.wire.refusals import Refused, UnknownInterrupt, too_late
from unpause.api.middleware.authentication import count_as_stream
from unpause.api.sse import stream_frames
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import (
    ApprovalPending,
    Conflict,
    IdempotencyMismatch,
    InvalidInput,
    NotADecider,
    RequirementMismatch,
    RequirementsOpen,
)
from unpause.services.threads import Thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ag_ui.core import BaseEvent, RunFinishedOutcome
    from starlette.requests import Request

    from unpause.api.sse import Frame
    from unpause.bootstrap import Application
    from unpause.domain.events import Event
    from unpause.domain.principal import Principal
    from unpause.errors import UnpauseError
    from unpause.services.commands import Accepted

_NO_CONTENT = 204
_JSON = "application/json"
_CURSOR = re.compile(r"([0-9]{1,10})\.([0-9]{1,6}|end)", re.ASCII)
_END = "end"
# Of a conversation that is opened.
_SHOWN_RUNS = 100
# Of the frames of one event.
_LAST = 10**6

# What the state of a conversation does not allow: the request is valid, and its stream tells what is wrong.
_IN_STREAM = (Conflict, RequirementMismatch, RequirementsOpen, ApprovalPending, NotADecider, UnknownInterrupt)

_EXECUTED = (RunStatus.PENDING, RunStatus.RUNNING)

Framed = tuple["Frame", str | None]


class _Cursor(NamedTuple):
    """The last frame that a client has: the number of its event, and its own within that."""

    sequence: int
    number: int


async def run_agent(application: Application, request: Request, caller: Principal, agent_id: str) -> Response:
    """Run the agent, or continue its run, and stream what happens up to the next pause or the end."""
    sent = await read_input(await _read_body(request), application.settings)
    count_as_stream(request)
    names = Names(sent.thread_id, sent.run_id, speaks_1_0=sent.protocol_version is not None)
    try:
        accepted = await RunRequest(application, caller.acting_for(None), agent_id, sent).accept()
    except IdempotencyMismatch:
        raise IdempotencyMismatch("runId") from None
    except Refused as refused:
        return _stream(application, [*_as_it_is(names, refused.thread, refused=True), _error(refused.error)])
    except _IN_STREAM as error:
        return _stream(application, [_error(error)])
    if isinstance(accepted, Thread):
        started, finished = _as_it_is(names, accepted)
        runs = await application.threads.list_runs(caller.acting_for(None), sent.thread_id, agent_id, _SHOWN_RUNS)
        state = StateSnapshotEvent(snapshot=(accepted.newest and accepted.newest.session_state) or {})
        return _stream(application, [started, state, snapshot_of(runs), finished])
    return await _follow(application, accepted, names)


async def _read_body(request: Request) -> object:
    """Return the JSON; raise RequestValidationError for anything else, as FastAPI does."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != _JSON:
        raise RequestValidationError([{"type": "content_type", "loc": ("body",), "msg": f"must be {_JSON}"}])
    try:
        return await request.json()
    except JSONDecodeError as error:
        found = {"type": "json_invalid", "loc": ("body",), "msg": "JSON decode error", "ctx": {"error": error.msg}}
        raise RequestValidationError([found]) from None
    except ClientDisconnect:
        # As FastAPI has it where it reads a body: nobody gets this, and it is no failure of the server's.
        raise InvalidInput("The body is incomplete") from None


async def follow_again(
    application: Application, request: Request, caller: Principal, ref: RunRef, last_event_id: str | None
) -> Response:
    """Stream the run that a client named so, or that has this id, after the last frame that the client has."""
    cursor = _read_cursor(last_event_id)
    principal = caller.acting_for(None)
    agent_id, run_id = ref.agent_id or "", ref.run_id or ""
    named = await application.threads.find_request(alias_key(principal, agent_id, run_id))
    if named is not None:
        # Its session may not be the caller's any more.
        run = await application.service.get_run(principal, RunRef(id=named.run.id, agent_id=agent_id))
        end = None if cursor is None else await application.threads.find_segment_end(run, named.after)
    else:
        run = await application.service.get_run(principal, ref)
        end = None if run.status in _EXECUTED else run.last_sequence
    if cursor is not None:
        if end is not None and cursor >= (end, _LAST):
            return Response(status_code=_NO_CONTENT)
        # No client has seen what is not in the log, and one that says so would miss the end.
        cursor = min(cursor, _Cursor(run.last_sequence, _LAST))
    count_as_stream(request)
    names = Names(run.session_id, run_id)
    if named is not None:
        return await _follow(application, named, names, cursor)
    return stream_frames(application, _frames(application.follower.attach(run, 0), Translator(run, names), cursor))


async def _follow(
    application: Application, accepted: Accepted, names: Names, cursor: _Cursor | None = None
) -> Response:
    """Stream the events after the request, up to the end of the segment."""
    run = accepted.run
    requirements = await application.threads.list_requirements(run) if accepted.after else ()
    events = application.follower.follow_run(run.id, accepted.after, accepted.begun)
    return stream_frames(application, _frames(events, Translator(run, names, requirements), cursor))


async def _frames(
    events: AsyncIterator[Event], translator: Translator, cursor: _Cursor | None
) -> AsyncIterator[Framed]:
    """Yield the frames after the cursor; the id of one is its event's number, and its own within that."""
    async for event in events:
        number = 0
        for translated in translator.translate(event):
            number += 1
            is_end = isinstance(translated, RunFinishedEvent | RunErrorEvent)
            place = _Cursor(event.sequence, _LAST if is_end else number)
            if cursor is not None and place <= cursor:
                continue
            shown = translated if translator.names.speaks_1_0 else for_older_client(translated)
            shown.timestamp = round(event.at.timestamp() * 1000)
            yield _frame(shown), f"{event.sequence}.{_END if is_end else number}"


def _stream(application: Application, events: Iterable[BaseEvent]) -> Response:
    async def frames() -> AsyncIterator[Framed]:
        for event in events:
            yield _frame(event), None

    return stream_frames(application, frames())


def _frame(event: BaseEvent) -> Frame:
    # Without a name: clients ignore it, and a browser's EventSource would hide the event.
    return "", event.model_dump_json(by_alias=True)


def _as_it_is(names: Names, thread: Thread, *, refused: bool = False) -> list[BaseEvent]:
    """Return a run that does nothing: it ends as the conversation stands, with what is open there."""
    run = thread.newest if thread.run is None else thread.run
    if run is not None and run.status is RunStatus.PAUSED and run.pause_id is not None:
        outcome: RunFinishedOutcome = outcome_of(run, run.pause_id, thread.requirements)
    elif names.speaks_1_0 and (refused or (run is not None and run.status is RunStatus.CANCELLED)):
        outcome = RunFinishedCancelledOutcome()
    else:
        outcome = RunFinishedSuccessOutcome()
    end = RunFinishedEvent(thread_id=names.thread_id, run_id=names.run_id, outcome=outcome)
    return [
        RunStartedEvent(thread_id=names.thread_id, run_id=names.run_id, protocol_version=PROTOCOL_VERSION),
        end if names.speaks_1_0 else for_older_client(end),
    ]


def _error(error: UnpauseError) -> BaseEvent:
    shown = too_late(error) if isinstance(error, Conflict) else error
    details = dict(shown.details)
    return RunErrorEvent(
        message=shown.message, code=shown.code.lower(), metadata={"unpause": details} if details else None
    )


def _read_cursor(text: str | None) -> _Cursor | None:
    if text is None or not text.strip():
        return None
    found = _CURSOR.fullmatch(text.strip())
    if found is None:
        raise InvalidInput("Last-Event-ID must be the id of an event of the stream")
    return _Cursor(int(found[1]), _LAST if found[2] == _END else int(found[2]))
