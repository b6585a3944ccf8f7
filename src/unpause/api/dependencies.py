"""Dependencies of the routes of both APIs."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from unpause.bootstrap import Application


async def get_application(request: Request) -> Application:
    """Return the application; async, because FastAPI runs plain functions in a thread."""
    application: Application = request.app.state.application
    return application


App = Annotated[Application, Depends(get_application)]
