"""Routes that follow a run: its log from any event on, then live. They work after a restart and for runs of any age."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Form, Header, Query
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unpause.api.agentos.caller import Caller, checking_agent
from unpause.api.agentos.wire.events import framer
from unpause.api.agentos.wire.responses import ERRORS, StreamTicket
from unpause.api.answers import events as event_stream
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.middleware.authentication import count_as_stream
from unpause.api.sse import EventStream, Frame, stream_events, stream_frames
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unpause.bootstrap import Application
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run

router = APIRouter(route_class=AgnoRoute, tags=["Agents"], responses=ERRORS)

_NO_CONTENT = 204
_LARGEST = 2**31 - 1
# Limits the digits, since int() refuses very long numbers; leading zeros are accepted.
_NUMBER = re.compile(r"-?0{0,20}[0-9]{1,10}", re.ASCII)


@router.get(
    "/agents/{agent_id}/runs/{run_id}/events",
    operation_id="follow_agent_run",
    response_model=None,
    response_class=EventStream,
    status_code=200,
    responses={
        200: {"content": event_stream("RunOutputEvent"), "description": "The events of the run"},
        204: {"description": "The run is paused or has ended, and there is nothing after the cursor"},
    },
)
async def follow_agent_run(  # noqa: PLR0913, PLR0917 - the parameters of the wire
    application: App,
    request: Request,
    caller: Caller,
    agent_id: str,
    run_id: str,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    session_id: Annotated[str | None, Query()] = None,
    from_event_id: Annotated[
        str | None, Query(alias="last_event_id", description="`Last-Event-ID` for clients that cannot send a header")
    ] = None,
    follow: Annotated[  # noqa: FBT002 - a query parameter
        bool, Query(description="Stay open while the run is paused, and stream its next segments, until it ends")
    ] = False,
    ticket: Annotated[
        str | None,
        Query(description="A stream ticket, in place of the header `Authorization`"),
    ] = None,
) -> Response:
    """Stream the run's events after ``Last-Event-ID``, or all of them: first the log, then live until it settles.

    204 tells a browser's ``EventSource`` to stop: the run is paused or has ended, and nothing follows. A header wins
    over the query parameter of its name: an ``EventSource`` that reconnects sends both.
    """
    # The middleware has read it.
    del ticket
    run = await _find(application, caller, RunRef(run_id=run_id, agent_id=agent_id, session_id=session_id or None))
    after = _number("Last-Event-ID", last_event_id or from_event_id, smallest=0)
    if after > run.last_sequence:
        raise InvalidInput(f"Last-Event-ID is past the newest event of the run, {run.last_sequence}")
    waits = run.status is RunStatus.PAUSED and follow
    if after == run.last_sequence and _is_settled(run) and not waits:
        return Response(status_code=_NO_CONTENT)
    count_as_stream(request)
    events = application.follower.attach(run, after, through_pauses=follow)
    return stream_events(application, events, framer(run))


@router.post(
    "/agents/{agent_id}/runs/{run_id}/events/ticket",
    operation_id="create_stream_ticket",
    response_model=StreamTicket,
)
async def create_stream_ticket(application: App, caller: Caller, agent_id: str, run_id: str) -> Response:
    """Return a ticket with which a browser's ``EventSource``, which sends no header, follows this run.

    It goes into the query parameter ``ticket`` of ``GET …/events``, opens nothing else, and ends with its stream after
    five minutes, or when the caller's token is revoked. Then get another, and go on after ``last_event_id``.
    """
    run = await _find(application, caller, RunRef(run_id=run_id, agent_id=agent_id))
    ticket, expires_at = await application.tickets.issue(caller, run.run_id)
    body = {"ticket": ticket, "expires_at": expires_at.isoformat().replace("+00:00", "Z")}
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


@router.post(
    "/agents/{agent_id}/runs/{run_id}/resume",
    operation_id="resume_agent_run_stream",
    response_model=None,
    response_class=EventStream,
    status_code=200,
    responses={200: {"content": event_stream("ResumedRunEvent"), "description": "The events of the run"}},
)
async def resume_agent_run_stream(  # noqa: PLR0913, PLR0917 - the fields of the wire
    application: App,
    request: Request,
    caller: Caller,
    agent_id: str,
    run_id: str,
    last_event_index: Annotated[str | None, Form()] = None,
    session_id: Annotated[str | None, Form()] = None,
) -> Response:
    """Stream the run's events after ``last_event_index``, framed as AgentOS 3.1.10 does."""
    run = await _find(application, caller, RunRef(run_id=run_id, agent_id=agent_id, session_id=session_id or None))
    count_as_stream(request)
    index = _number("last_event_index", last_event_index, smallest=-1)
    frames = _attached(application, run, -1 if last_event_index is None else index)
    return stream_frames(application, frames)


async def _attached(application: Application, run: Run, index: int) -> AsyncIterator[tuple[Frame, int | str | None]]:
    """Yield the frames with their event numbers, and frames that announce replay, catch-up and live events."""
    translate = framer(run)
    settled = _is_settled(run)
    count = run.last_sequence
    missed = max(0, count - (index + 1))
    if settled:
        text = f"Run {run.status.value}. Replaying {missed} missed events (of {count} total)."
        yield (
            _meta(
                "replay",
                run,
                run.status.value,
                text,
                total_events=missed,
                total_buffered=count,
                last_event_index_requested=index,
            ),
            None,
        )
    elif missed:
        text = f"Catching up on {missed} missed events."
        yield _meta("catch_up", run, "running", text, missed_events=missed, current_event_count=count), None
    subscribed = settled
    if not settled and not missed:
        # Nothing to catch up on: announce live events at once, not with the first one.
        yield _subscribed(run, count), None
        subscribed = True
    async for event in application.follower.attach(run, index + 1):
        if not subscribed and event.sequence > count:
            yield _subscribed(run, count), None
            subscribed = True
        yield translate(event), event.sequence
        if not subscribed and event.sequence == count:
            yield _subscribed(run, count), None
            subscribed = True


def _is_settled(run: Run) -> bool:
    return run.status.is_final or run.status is RunStatus.PAUSED


def _subscribed(run: Run, count: int) -> Frame:
    return _meta(
        "subscribed", run, "running", "Subscribed to agent run. Receiving live events.", current_event_count=count
    )


def _meta(name: str, run: Run, status: str, message: str, **numbers: int) -> Frame:
    body: dict[str, Any] = {"event": name, "run_id": run.run_id, "status": status, **numbers, "message": message}
    # AgentOS's JSON has spaces in these frames only.
    return name, json.dumps(body, ensure_ascii=False)


async def _find(application: Application, caller: Principal, ref: RunRef) -> Run:
    with checking_agent(application, ref.agent_id or ""):
        return await application.service.get_run(caller, ref)


def _number(field: str, text: str | None, *, smallest: int) -> int:
    if text is None or not text.strip():
        return smallest
    found = _NUMBER.fullmatch(text.strip())
    if found is None or not smallest <= (value := int(found[0])) <= _LARGEST:
        raise InvalidInput(f"{field} must be the number of an event")
    return value
