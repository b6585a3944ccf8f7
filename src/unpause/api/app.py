"""The ASGI application: all APIs, the console and the health routes, over one run-state service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.api.routes import add_routes
from unpause.api.starting import app_without_routes

if TYPE_CHECKING:
    from fastapi import FastAPI

    from unpause.bootstrap import Application


def create_app(application: Application) -> FastAPI:
    """Return the ASGI application; its lifespan runs the application's background work."""
    app = app_without_routes(application)
    add_routes(app)
    return app
