"""AgentOS's routes for sessions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from unpause.api.agentos.caller import Caller, UserCaller
from unpause.api.agentos.config import DATABASE_ID
from unpause.api.agentos.replies import json_response
from unpause.api.agentos.wire.pages import page_at, page_json
from unpause.api.agentos.wire.responses import CONFLICT, ERRORS
from unpause.api.agentos.wire.runs import moment, run_output, run_preview, run_schema
from unpause.api.answers import answer, answer_list
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.json import large_json_response
from unpause.domain.principal import Principal
from unpause.domain.runs import RunFilter, RunStatus
from unpause.domain.sessions import NewSession, SessionFilter
from unpause.errors import InvalidInput, NotFound, SessionNotFound
from unpause.services.sessions import SessionRunsQuery

if TYPE_CHECKING:
    from unpause.domain.runs import RunView
    from unpause.domain.sessions import Session

# The number of last runs in a session's chat history; the runs themselves are paged.
_CHAT_RUNS = 50
_LONGEST_NAME = 255
_LONGEST_TITLE = 10_000

# A status of AgentOS 3.1.10 that no run has here; a filter may name it.
_REGENERATED = "REGENERATED"

# AgentOS also has sessions of teams and workflows; here there are none.
SessionType = Literal["agent", "team", "workflow"]
OfType = Annotated[SessionType, Query(alias="type")]

# Seconds since 1970, until the year 9999.
Moment = Annotated[int | None, Query(ge=0, le=253_402_300_798)]


def check_database(db_id: Annotated[str | None, Query()] = None) -> None:
    """Raise NotFound for any database but the only one."""
    if db_id not in {None, "", DATABASE_ID}:
        raise NotFound(f"404: No database found with id '{db_id}'")


router = APIRouter(route_class=AgnoRoute, tags=["Sessions"], dependencies=[Depends(check_database)], responses=ERRORS)


class CreateSessionRequest(BaseModel):
    """A session to create."""

    model_config = ConfigDict(extra="ignore")

    session_id: str | None = Field(default=None, max_length=_LONGEST_NAME)
    session_name: str | None = Field(default=None, max_length=_LONGEST_TITLE)
    session_state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    user_id: str | None = Field(default=None, max_length=_LONGEST_NAME)
    agent_id: str | None = Field(default=None, max_length=_LONGEST_NAME)


class Body_rename_session(BaseModel):  # noqa: N801 - the name of its schema in AgentOS's document
    """A new name."""

    model_config = ConfigDict(extra="ignore")

    session_name: str = Field(min_length=1, max_length=_LONGEST_TITLE)


class DeleteSessionRequest(BaseModel):
    """The sessions to delete, and the type of each."""

    model_config = ConfigDict(extra="ignore")

    session_ids: list[Annotated[str, Field(max_length=_LONGEST_NAME)]] = Field(min_length=1, max_length=1000)
    session_types: list[SessionType] = Field(min_length=1, max_length=1000)


class UpdateSessionRequest(BaseModel):
    """The fields to change; omitted ones stay."""

    model_config = ConfigDict(extra="ignore")

    session_name: str | None = Field(default=None, max_length=_LONGEST_TITLE)
    session_state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None


def read_filter(
    component_id: Annotated[str | None, Query()] = None,
    user_id: Annotated[str | None, Query()] = None,
    session_name: Annotated[str | None, Query()] = None,
    sort_by: Annotated[str, Query()] = "created_at",
    sort_order: Annotated[Literal["asc", "desc"], Query()] = "desc",
) -> SessionFilter:
    """Return the filter and order of a list of sessions."""
    return SessionFilter(
        agent_id=component_id,
        user_id=user_id,
        session_name=session_name or None,
        sort_by=sort_by,
        descending=sort_order == "desc",
    )


def read_run_query(
    created_after: Moment = None,
    created_before: Moment = None,
    status: Annotated[list[str] | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page: Annotated[int | None, Query(ge=1, le=1_000_000)] = None,
) -> SessionRunsQuery:
    """Return the filter and page of a list of runs; both ends of the period are included.

    AgentOS's clients know no pages: without one they get the end of the conversation.
    """
    selection = RunFilter(
        statuses=_statuses(status) if status else None,
        since=None if created_after is None else datetime.fromtimestamp(created_after, UTC),
        until=None if created_before is None else datetime.fromtimestamp(created_before + 1, UTC),
    )
    return SessionRunsQuery(selection, page_at(page or 1, limit), newest=page is None)


def _statuses(words: list[str]) -> frozenset[RunStatus]:
    """Return the statuses of those names, in any case; raise InvalidInput, as 3.1.10 does, for an unknown one."""
    names = {word.upper() for word in words}
    known = {*RunStatus.__members__, _REGENERATED}
    unknown = sorted(names - known)
    if unknown:
        raise InvalidInput(f"Invalid status value(s) {unknown}; expected one of {sorted(known)}")
    return frozenset(RunStatus(word) for word in names - {_REGENERATED})


@router.get(
    "/sessions",
    operation_id="get_sessions",
    response_model=None,
    responses=answer("PaginatedResponse_SessionSchema_", "The sessions"),
)
async def list_sessions(
    application: App,
    caller: Caller,
    selection: Annotated[SessionFilter, Depends(read_filter)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    session_type: OfType = "agent",
) -> Response:
    """Return a page of sessions; teams and workflows have none."""
    chosen = page_at(page, limit)
    if not _has_sessions(session_type):
        return json_response({"data": [], "meta": page_json(chosen, 0)})
    found, total = await application.sessions.list_sessions(caller, selection, chosen)
    return json_response({"data": [_entry_json(session) for session in found], "meta": page_json(chosen, total)})


@router.post(
    "/sessions",
    operation_id="create_session",
    status_code=201,
    response_model=None,
    responses={**answer("AgentSessionDetailSchema", "The new session", 201), **CONFLICT},
)
async def create_session(
    application: App, caller: Caller, body: CreateSessionRequest, session_type: OfType = "agent"
) -> Response:
    """Create an empty session, of an agent or of none yet."""
    if not _has_sessions(session_type):
        raise InvalidInput(f"Invalid session type: {session_type}. This server has only sessions of agents")
    new = NewSession(
        session_id=body.session_id or str(uuid4()),
        agent_id=body.agent_id or "",
        name=body.session_name,
        state=body.session_state,
        metadata=body.metadata,
    )
    session = await application.sessions.create_session(caller.acting_for(body.user_id), new)
    return json_response(_session_json(session, []), 201)


@router.get(
    "/sessions/{session_id}",
    operation_id="get_session_by_id",
    response_model=None,
    responses=answer("AgentSessionDetailSchema", "The session"),
)
async def get_session(
    application: App, session_id: str, caller: UserCaller, session_type: OfType = "agent"
) -> Response:
    """Return a session with the chat of its last runs."""
    missing = SessionNotFound(f"{session_type.title()} Session with id '{session_id}' not found")
    if not _has_sessions(session_type):
        raise missing
    try:
        session, views = await application.sessions.list_chat(caller, session_id, _CHAT_RUNS)
    except SessionNotFound:
        raise missing from None
    await application.agents.expect()
    agent = application.agents.find_agent(session.agent_id)
    output = _session_json(session, views)
    if agent is not None:
        model = {"id": agent.model_name, "name": agent.model_name, "provider": agent.model_provider}
        output["agent_data"] = {"name": agent.agent_name, "agent_id": agent.agent_id, "model": model}
    return await large_json_response(output)


@router.patch(
    "/sessions/{session_id}",
    operation_id="update_session",
    response_model=None,
    responses=answer("AgentSessionDetailSchema", "The session, changed"),
)
async def update_session(
    application: App, session_id: str, caller: UserCaller, body: UpdateSessionRequest, session_type: OfType = "agent"
) -> Response:
    """Change a session's name, state, metadata or summary."""
    changes = body.model_dump(exclude_unset=True)
    return await _change(application, caller, session_id, session_type, changes)


@router.post(
    "/sessions/{session_id}/rename",
    operation_id="rename_session",
    response_model=None,
    responses=answer("AgentSessionDetailSchema", "The session, renamed"),
)
async def rename_session(
    application: App, session_id: str, caller: UserCaller, body: Body_rename_session, session_type: OfType = "agent"
) -> Response:
    """Rename a session."""
    changes = {"session_name": body.session_name}
    return await _change(application, caller, session_id, session_type, changes)


@router.delete(
    "/sessions/{session_id}", operation_id="delete_session", status_code=204, response_model=None, responses=CONFLICT
)
async def delete_session(application: App, session_id: str, caller: UserCaller) -> Response:
    """Delete a session with its runs; one that does not exist is no error."""
    await application.sessions.delete_session(caller, session_id)
    return Response(status_code=204)


@router.delete("/sessions", operation_id="delete_sessions", status_code=204, response_model=None, responses=CONFLICT)
async def delete_sessions(application: App, caller: UserCaller, body: DeleteSessionRequest) -> Response:
    """Delete sessions, one after the other: those before an error stay deleted."""
    if len(body.session_ids) != len(body.session_types):
        raise InvalidInput("Session IDs and session types must have the same length")
    for session_id, session_type in zip(body.session_ids, body.session_types, strict=True):
        if _has_sessions(session_type):
            await application.sessions.delete_session(caller, session_id)
    return Response(status_code=204)


@router.get(
    "/sessions/{session_id}/runs",
    operation_id="get_session_runs",
    response_model=None,
    responses=answer_list("RunSchema", "The runs, oldest first"),
)
async def list_session_runs(
    application: App,
    session_id: str,
    caller: UserCaller,
    query: Annotated[SessionRunsQuery, Depends(read_run_query)],
    session_type: OfType = "agent",
) -> Response:
    """Return runs of a session, oldest first: a page of them, or without a page the newest."""
    if not _has_sessions(session_type):
        raise SessionNotFound(f"Session with ID {session_id} not found")
    views = await application.sessions.list_runs(caller, session_id, query)
    return await large_json_response([_without_nulls(run_schema(view, for_admin=caller.is_admin)) for view in views])


@router.get(
    "/sessions/{session_id}/run-previews",
    operation_id="get_session_run_previews",
    response_model=None,
    responses=answer_list("SessionRunPreviewSchema", "The runs in a short form, oldest first"),
)
async def list_run_previews(
    application: App, session_id: str, caller: UserCaller, query: Annotated[SessionRunsQuery, Depends(read_run_query)]
) -> Response:
    """Return the same runs in a short form, for clients that poll."""
    views = await application.sessions.list_bare_runs(caller, session_id, query)
    return json_response([run_preview(view) for view in views])


@router.get(
    "/sessions/{session_id}/runs/{run_id}",
    operation_id="get_session_run",
    response_model=None,
    responses=answer("RunSchema", "The run"),
)
async def get_session_run(application: App, session_id: str, run_id: str, caller: UserCaller) -> Response:
    """Return one run of a session."""
    view = await application.sessions.get_run(caller, session_id, run_id)
    return await large_json_response(run_schema(view, for_admin=caller.is_admin))


def _has_sessions(session_type: SessionType) -> bool:
    return session_type == "agent"


async def _change(
    application: App, caller: Principal, session_id: str, session_type: SessionType, changes: dict[str, Any]
) -> Response:
    missing = SessionNotFound(f"Session with id '{session_id}' not found")
    if not _has_sessions(session_type):
        raise missing
    try:
        await application.sessions.change_session(caller, session_id, changes)
        session, views = await application.sessions.list_chat(caller, session_id, _CHAT_RUNS)
    except SessionNotFound:
        raise missing from None
    nulls = {"session_summary": session.summary, "total_tokens": None, "agent_data": None, "metadata": session.metadata}
    return await large_json_response({**_session_json(session, views), **nulls})


def _entry_json(session: Session) -> dict[str, Any]:
    """Return a session for lists: with the keys of AgentOS 2.5.6, and those that clients of 3.1.10 also read."""
    return _without_nulls(
        {
            "session_id": session.session_id,
            "session_name": session.session_name or "",
            "session_state": session.session_state or {},
            "created_at": moment(session.created_at),
            "updated_at": moment(session.updated_at),
            "session_type": "agent",
            "user_id": session.user_id,
            "agent_id": session.agent_id or None,
            "metadata": session.metadata,
        }
    )


def _session_json(session: Session, views: list[RunView]) -> dict[str, Any]:
    chat = [
        message for view in views for message in run_output(view, stored=True)["messages"] if message["role"] != "tool"
    ]
    return _without_nulls(
        {
            "user_id": session.user_id,
            "agent_session_id": session.session_id,
            "session_id": session.session_id,
            "session_name": session.session_name or "",
            "session_summary": session.summary,
            "session_state": session.session_state or {},
            "agent_id": session.agent_id or None,
            "metrics": {},
            "metadata": session.metadata,
            "chat_history": chat,
            "created_at": moment(session.created_at),
            "updated_at": moment(session.updated_at),
        }
    )


def _without_nulls(output: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in output.items() if value is not None}
