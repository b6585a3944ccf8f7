"""A server with one route for each bucket of the rate limits beside its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path as Folder
from typing import Annotated, Any
from unittest import mock

import httpx
from fastapi import APIRouter, Body, Path
from starlette.responses import JSONResponse, Response

from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import Server, SettableClock, served
from unpause.api import permissions
from unpause.api.errors import CodegenRoute
from unpause.api.rate_limits import Bucket, limited
from unpause.errors import InvalidInput, OrganizationForbidden

BUCKETS = "/v1/organizations/1/buckets"


class LimitedServer(Server):
    """One process's server; ``executed`` is which buckets' routes were reached."""

    async def ask(self, bucket: str, bearer: str | None = "t", **request: Any) -> httpx.Response:  # noqa: ANN401
        """Send one request to the bucket's route, with this token."""
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        return await self.client.post(f"{BUCKETS}/{bucket}", headers=headers, **{"json": {"n": 1}, **request})


@asynccontextmanager
async def served_with_buckets(
    folder: Folder,
    clock: SettableClock,
    **changes: Any,  # noqa: ANN401
) -> AsyncIterator[LimitedServer]:
    """Serve during the block; two of them may share a PostgreSQL."""
    # A route without a row in the table does not start.
    rows = {f"POST {_path(bucket)}": () for bucket in Bucket}
    with mock.patch.object(permissions, "PERMISSIONS", {**permissions.PERMISSIONS, **rows}):
        async with served(folder, ScriptedDriver(), clock=clock, **changes) as server:
            server.app.include_router(_bucket_routes(server.executed))
            yield LimitedServer(**vars(server))


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
