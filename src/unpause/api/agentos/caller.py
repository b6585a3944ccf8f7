"""The callers of AgentOS's API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Query
from starlette.requests import Request

from unpause.api.dependencies import App
from unpause.api.permissions import principal_of
from unpause.domain.principal import Principal
from unpause.errors import RunNotFound, UserMissing

if TYPE_CHECKING:
    from unpause.bootstrap import Application

# The length of the audit trail's column: nobody has a longer name.
_LONGEST_NAME = 255


async def get_caller(request: Request, application: App) -> Principal:
    """Return the caller; where the settings isolate users, it sees nothing of other users.

    Raises UserMissing there for a JWT that names no user, which would see everything.
    """
    principal = replace(principal_of(request), via="agno", is_isolated=application.settings.user_isolation)
    if principal.is_isolated and principal.is_nameless_jwt and not principal.is_admin:
        raise UserMissing
    return principal


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
