"""A server whose clock the test moves, with one route for each bucket of the rate limits beside its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path as Folder
from typing import Annotated, Any
from unittest import mock

import httpx
from fastapi import APIRouter, Body, Path
from starlette.responses import JSONResponse, Response

from tests.support.database_clock import stop_clock
from tests.support.databases import NOW
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import ADDRESS, settings_for
from unpause.api import permissions
from unpause.api.app import create_app
from unpause.api.errors import CodegenRoute
from unpause.api.rate_limits import Bucket, limited
from unpause.bootstrap import Application, build_application
from unpause.errors import InvalidInput, OrganizationForbidden

BUCKETS = "/v1/organizations/1/buckets"


class MovedClock:
    """Stands still until it is moved, and a database whose clock counts with it."""

    def __init__(self, now: datetime = NOW) -> None:
        self._now = now
        self._database_url: str | None = None

    def set_database(self, url: str) -> None:
        """Have the clock of this database show the same from now on."""
        self._database_url = url
        stop_clock(url, self._now)

    def now(self) -> datetime:
        """Return the moment it was last moved to."""
        return self._now

    def move(self, seconds: float) -> None:
        """Move it on."""
        self._now += timedelta(seconds=seconds)
        if self._database_url is not None:
            stop_clock(self._database_url, self._now)


@dataclass(frozen=True)
class Limited:
    """One process's server."""

    client: httpx.AsyncClient
    application: Application
    executed: list[str]

    async def ask(self, bucket: str, bearer: str | None = "t", **request: Any) -> httpx.Response:  # noqa: ANN401
        """Send one request to the bucket's route, with this token."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self.client.post(f"{BUCKETS}/{bucket}", headers=headers, **{"json": {"n": 1}, **request})


@asynccontextmanager
async def serving_limited(folder: Folder, clock: MovedClock, **changes: Any) -> AsyncIterator[Limited]:  # noqa: ANN401
    """Serve during the block; two of them may share a PostgreSQL."""
    application = build_application(settings_for(folder, **changes), [ScriptedDriver()], clock)
    executed: list[str] = []
    app = create_app(application)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    # A route without a row in the table does not start.
    rows = {f"POST {_path(bucket)}": () for bucket in Bucket}
    with mock.patch.object(permissions, "PERMISSIONS", {**permissions.PERMISSIONS, **rows}):
        app.include_router(_bucket_routes(executed))
        async with application.running(), httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            yield Limited(client, application, executed)


def _bucket_routes(executed: list[str]) -> APIRouter:
    router = APIRouter(route_class=CodegenRoute)
    for bucket in Bucket:
        router.post(_path(bucket), dependencies=limited(bucket, _who))(_endpoint(bucket, executed))
    return router


def _path(bucket: Bucket) -> str:
    return f"/v1/organizations/{{org_id}}/buckets/{bucket}"


def _endpoint(bucket: Bucket, executed: list[str]) -> Any:  # noqa: ANN401
    async def endpoint(n: Annotated[int, Body(embed=True)]) -> Response:
        executed.append(bucket)
        if n < 0:
            raise InvalidInput("n is negative")
        return JSONResponse({"n": n})

    return endpoint


async def _who(org_id: Annotated[int, Path()]) -> None:
    if org_id != 1:
        raise OrganizationForbidden
