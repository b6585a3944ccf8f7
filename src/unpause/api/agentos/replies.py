"""Responses with a run: a stream, JSON once its segment ends, or at once where it runs in the background."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json
from starlette.responses import Response

from unpause.api.agentos.wire.events import framer
from unpause.api.agentos.wire.runs import run_output
from unpause.api.idempotency import respond_once
from unpause.api.json import write_json
from unpause.api.permissions import principal_of
from unpause.api.sse import stream_events
from unpause.domain.principal import Principal
from unpause.domain.runs import RunRef
from unpause.errors import ShuttingDown
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from starlette.requests import Request

    from unpause.bootstrap import Application
    from unpause.domain.idempotency import RequestKey
    from unpause.domain.runs import RunView
    from unpause.services.commands import Accepted

T = TypeVar("T")

_ACCEPTED = 202
# nginx's status for a client that closed the connection; nobody reads it.
_CLIENT_GONE = 499


async def stream_response(application: Application, accepted: Accepted, *, deltas_only: bool = False) -> Response:
    """Stream the events after the request, up to the end of the segment."""
    begun, after = accepted.begun, accepted.after
    # They are committed, and need not wait for the follower's turn.
    first = [] if begun is None else [event for event in begun.events if event.sequence > after]
    if first:
        after = first[-1].sequence
    events = application.follower.follow_run(accepted.run.id, after, begun)
    translate = framer(accepted.run, deltas_only=deltas_only)
    return stream_events(application, events, translate, first)


async def run_response(
    application: Application, request: Request, accepted: Accepted, request_key: RequestKey | None, *, stored: bool
) -> Response:
    """Return the run at the end of its segment; for a key with a stored answer, return that.

    Stops waiting when the client disconnects; the run goes on.
    """
    if accepted.answer is not None:
        return Response(accepted.answer, media_type="application/json")
    view = await wait_unless_disconnected(request, _wait_for(application, accepted))
    if view is None:
        return Response(status_code=_CLIENT_GONE)

    async def make() -> bytes:
        return await write_json(run_output(view, stored=stored, for_admin=principal_of(request).is_admin))

    return await respond_once(application, request_key, None, make)


async def wait_unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the coroutine's result; None as soon as the client disconnects. The body has to be read before."""

    async def listen() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue

    async with TaskScope() as tasks:
        working, listening = tasks.start(work, "wait for a run"), tasks.start(listen(), "wait for a disconnect")
        await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None


async def _wait_for(application: Application, accepted: Accepted) -> RunView:
    """Return the run at the end of its segment."""
    try:
        view = await application.follower.wait_for_run(accepted.run.id, accepted.after, accepted.begun)
    except ShuttingDown:
        run = accepted.run
        names = {"run_id": run.run_id, "session_id": run.session_id}
        raise ShuttingDown("The server is shutting down; the run goes on and can be read later", names) from None
    if view is not None:
        return view
    # A caller who may create or continue a run may see it.
    return await application.service.get_view(Principal(accepted.run.organization_id), RunRef(id=accepted.run.id))


def accepted_response(accepted: Accepted) -> Response:
    """Return 202 with the ids to poll for."""
    run = accepted.run
    return json_response({"run_id": run.run_id, "session_id": run.session_id, "status": "PENDING"}, _ACCEPTED)


def json_response(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever is JSON
    """Return the content as JSON."""
    return Response(to_json(content), status, media_type="application/json")
