"""Parameters that are read in one pass are those that FastAPI reads; what is not plain is left to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import fastapi.routing
import httpx
import pytest
from fastapi import Depends, FastAPI, File, Form, Header, Query, UploadFile
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.caller import confirming
from tests.support.server import Server
from tests.support.toolbox import plan
from unpause.api.json import StrictRequest
from unpause.api.parameters import reading_directly

FORM = "application/x-www-form-urlencoded"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ByFastAPI(APIRoute):
    def get_route_handler(self) -> Handler:
        handler = self.read(super().get_route_handler())

        async def handle(request: Request) -> Response:
            return await handler(StrictRequest(request.scope, request.receive))

        return handle

    def read(self, handler: Handler) -> Handler:
        return handler


class Directly(ByFastAPI):
    def read(self, handler: Handler) -> Handler:
        direct = reading_directly(self, handler)
        assert direct is not handler
        return direct


async def name(request: Request, user: Annotated[str | None, Query(max_length=5)] = None) -> str:
    return f"{request.method} {user}"


async def names(first: Annotated[str, Depends(name)], limit: Annotated[int, Query(ge=1)] = 7) -> list[Any]:
    return [first, limit]


async def media(files: Annotated[list[UploadFile] | None, File()] = None, audio: Annotated[str, Form()] = "-") -> str:
    return f"{files and [file.filename for file in files]} {audio}"


async def echo(  # noqa: PLR0913, PLR0917 - one of each kind
    number: int,
    who: Annotated[str, Depends(name)],
    more: Annotated[list[Any], Depends(names)],
    sent: Annotated[str, Depends(media)],
    text: Annotated[str, Form()],
    flag: Annotated[bool, Form()] = True,  # noqa: FBT002 - a form field
    limited: Annotated[str | None, Form(max_length=3)] = None,
    count: Annotated[int, Form(alias="how-many")] = 2,
    key: Annotated[str | None, Header(alias="Some-Key")] = None,
) -> Response:
    return JSONResponse([number, who, more, sent, text, flag, limited, count, key])


async def answer(kind: type[APIRoute], url: str, sent: dict[str, Any]) -> tuple[int, str]:
    app = FastAPI(routes=[kind("/things/{number}", echo, methods=["POST"])])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        response = await client.post(url, **sent)
        return response.status_code, response.text


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("/things/1", {"data": {"text": "a"}}),
        (
            "/things/1?user=ada&limit=3",
            {"data": {"text": "a", "flag": "no", "limited": "abc", "how-many": "9", "audio": "x"}},
        ),
        ("/things/1?user=&user=b&limit=4", {"data": {"text": ["a", "b"]}, "headers": {"some-KEY": "k"}}),
        ("/things/1", {"data": {"text": "a", "flag": "", "limited": "", "count": "5", "files": ""}}),
        ("/things/1", {"data": {"text": ""}}),
        ("/things/x?limit=0&user=adalovelace", {"data": {"flag": "perhaps", "limited": "long", "how-many": "1.5"}}),
        ("/things/1", {"data": {"text": "a", "files": "no file"}}),
        ("/things/1", {"data": {"text": "a"}, "files": [("files", ("a.txt", b"a"))]}),
        ("/things/1", {"json": {"text": "a"}}),
        ("/things/1", {"content": b"text=a", "headers": {"content-type": "text/plain"}}),
        ("/things/1", {"content": b"&".join([b"a=b"] * 2000), "headers": {"content-type": FORM}}),
    ],
)
async def test_a_request_is_read_as_fastapi_reads_it(url: str, sent: dict[str, Any]) -> None:
    assert await answer(Directly, url, sent) == await answer(ByFastAPI, url, sent)


async def test_a_create_and_a_continue_are_read_without_fastapi(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def solve(**_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(fastapi.routing, "solve_dependencies", solve)
    run = await server.create(plan([("delete_file", {"path": "a"})]))
    assert (await server.continued(run, confirming(run)))["status"] == "COMPLETED"
