"""Who asks through AgentOS's API, and for whom."""

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

# A longer name is nobody's, and could not be written into the audit trail.
_LONGEST_NAME = 255


async def get_caller(request: Request, application: App) -> Principal:
    """Return who asks; where the settings isolate users, of what others have nothing is there.

    Raises Forbidden there for a JWT that names no user: it would see everybody's.
    """
    principal = replace(principal_of(request), via="agno", is_isolated=application.settings.user_isolation)
    if principal.is_isolated and principal.is_nameless_jwt and not principal.is_admin:
        raise UserMissing
    return principal


Caller = Annotated[Principal, Depends(get_caller)]


async def get_asker(
    caller: Caller, user_id: Annotated[str | None, Query(max_length=_LONGEST_NAME)] = None
) -> Principal:
    """Return who asks for what belongs to ``user_id``: to one user another user's session is not there."""
    return caller.looking_for(user_id)


@contextmanager
def naming_agent(application: Application, agent_id: str) -> Iterator[None]:
    """Say of a run that is not there that its agent is not, where that is so; stored runs need no agent here."""
    try:
        yield
    except RunNotFound:
        application.agents.get_agent(agent_id)
        raise


Asker = Annotated[Principal, Depends(get_asker)]
