"""Answers with a run: as a stream, as JSON once its segment ends, or at once where it goes on in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.responses import Response

from unpause.api.agentos.event_json import framer
from unpause.api.agentos.translate import run_output
from unpause.api.large_json import write_json
from unpause.api.sse import stream_events
from unpause.domain.principal import Principal
from unpause.errors import ShuttingDown
from unpause.runs.commands import RunName

if TYPE_CHECKING:
    from unpause.bootstrap import Application
    from unpause.runs.commands import Accepted
    from unpause.store.idempotency import RequestKey

_ACCEPTED = 202


async def answer_with_stream(application: Application, accepted: Accepted, *, deltas_only: bool = False) -> Response:
    """Stream what the request caused, up to the end of the segment."""
    events = application.follower.follow_run(accepted.run.id, accepted.after)
    translate = framer(accepted.run, deltas_only=deltas_only)
    return stream_events(application, events, translate)


async def answer_with_run(
    application: Application, asker: Principal, accepted: Accepted, asked: RequestKey | None, *, stored: bool
) -> Response:
    """Wait for the end of the segment and answer with the run; to a key that was answered before, the same again."""
    if accepted.answer is None:
        await _wait_for(application, accepted)
        # Whoever may make a run or send it on may see what becomes of it.
        view = await application.service.get_view(Principal(accepted.run.organization_id), RunName(id=accepted.run.id))
        text = (await write_json(run_output(view, stored=stored, for_admin=asker.is_admin))).decode()
        if asked is not None:
            await application.service.keep_answer(asked, text)
    else:
        text = accepted.answer
    return Response(text, media_type="application/json")


async def _wait_for(application: Application, accepted: Accepted) -> None:
    try:
        await application.follower.wait_for_run(accepted.run.id, accepted.after)
    except ShuttingDown:
        run = accepted.run
        names = {"run_id": run.run_id, "session_id": run.session_id}
        raise ShuttingDown("The server is stopping; the run goes on and can be read", names) from None


def answer_at_once(accepted: Accepted) -> Response:
    """Answer 202 with the ids to poll for."""
    run = accepted.run
    return reply({"run_id": run.run_id, "session_id": run.session_id, "status": "PENDING"}, _ACCEPTED)


def reply(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever is JSON
    """Return the content as JSON."""
    return Response(to_json(content), status, media_type="application/json")
