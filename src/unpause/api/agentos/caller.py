"""The callers of AgentOS's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query
from starlette.requests import Request

from unpause.api.dependencies import App, identify_caller
from unpause.domain.principal import Principal
from unpause.errors import RunNotFound

if TYPE_CHECKING:
    from unpause.bootstrap import Application

# The length of the audit trail's column: nobody has a longer name.
_LONGEST_NAME = 255


async def get_caller(request: Request, application: App) -> Principal:
    """Return the caller; where the settings isolate users, it sees nothing of other users.

    Raises UserMissing there for a JWT that names no user, which would see everything.
    """
    return identify_caller(request, application, "agno")


Caller = Annotated[Principal, Depends(get_caller)]


async def get_user_caller(
    caller: Caller, user_id: Annotated[str | None, Query(max_length=_LONGEST_NAME)] = None
) -> Principal:
    """Return the caller narrowed to ``user_id``, which does not see another user's session."""
    return caller.narrowed_to(user_id)


@contextmanager
def checking_agent(application: Application, agent_id: str) -> Iterator[None]:
    """Raise AgentNotFound for a run that is not found where its agent is not served; stored runs need no agent."""
    try:
        yield
    except RunNotFound:
        application.agents.get_agent(agent_id)
        raise


UserCaller = Annotated[Principal, Depends(get_user_caller)]
