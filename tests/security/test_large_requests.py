"""No request, however large and whatever stands in it, keeps the event loop from all others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from tests.support.full import IS_FULL
from tests.support.loop_time import LoopTime, measured_loop
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import ADDRESS, running
from unpause.api.app import create_app

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECONDS: Final = 0.1
LONGEST_REFUSAL: Final = 64 * 1024
PLAIN: Final = 2 * 2**20
LARGE: Final = (20 if IS_FULL else 5) * 2**20
# What takes the square of its length shows by far.
SMALL: Final = 2**18
# A busy machine makes one attempt slow, and what is slow by itself all of them.
TRIES: Final = 3
JSON: Final = "application/json"
URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
MULTIPART_TYPE: Final = {"Content-Type": f"{MULTIPART}; boundary=edge"}
WITH_PICTURES: Final = (
    "POST /agents/{agent_id}/runs",
    "POST /v1/organizations/{org_id}/agent/run",
    "POST /v1/organizations/{org_id}/agent/run/resume",
    "POST /agents/{agent_id}/ag-ui",
)
# What takes its time by the byte; where the limit is lower, the rest takes as long.
AT_FULL_SIZE: Final = frozenset(
    {"zeros in each", "a long text in each", "pictures in each", "line ends as a file", "pictures of Q "}
)
EVERYWHERE: Final = frozenset({"zeros in each", "few", "percent signs in each", "a1&"})

Body: TypeAlias = tuple[str, bytes, Mapping[str, str]]


@dataclass
class Server:
    """A server that asks nobody who they are, with a paused run; ``loop`` is how long it was busy."""

    client: httpx.AsyncClient
    operations: Mapping[str, Mapping[str, Any]]
    schemas: Mapping[str, Any]
    loop: LoopTime
    names: Mapping[str, object]

    async def send(self, route: str, label: str, suffix: str = "", **request: Any) -> None:  # noqa: ANN401
        """Send a request that is not answered late, at length, or with a failure of the server."""
        method, _, path = route.partition(" ")
        for _ in range(TRIES):
            self.loop.reset()
            response = await self.client.request(method, path.format_map(self.names) + suffix, **request)
            if self.loop.longest < SECONDS:
                break
        assert self.loop.longest < SECONDS, f"{route}: {label}: {self.loop.longest:.3f} s in {self.loop.what}"
        assert response.status_code < 500, f"{route}: {label}: {response.text[:500]}"
        if response.status_code >= 400:
            assert len(response.content) < LONGEST_REFUSAL, f"{route}: {label}"

    def fields(self, route: str, kind: str) -> list[str]:
        """Return the names of what the route's body of this kind may hold."""
        content = self.operations[route].get("requestBody", {}).get("content", {})
        schema = content.get(kind, {}).get("schema", {})
        schema = self.schemas.get(schema.get("$ref", "").rpartition("/")[2], schema)
        return list(schema.get("properties", ()))


class _Names(dict[str, object]):
    def __missing__(self, name: str) -> object:
        return 1


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("large")
    async with running(folder, drivers=[ScriptedDriver()]) as application:
        app = create_app(application)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            document = app.openapi()
            routes = {
                f"{method.upper()} {path}": operation
                for path, item in document["paths"].items()
                for method, operation in item.items()
            }
            form = {"message": "say hi", "stream": "false"}
            run = (await client.post("/agents/scripted/runs", data=form)).json()
            names = _Names(agent_id="scripted", **{name: run[name] for name in ("run_id", "session_id")})
            with measured_loop() as loop:
                server = Server(client, routes, document["components"]["schemas"], loop, names)
                # What is made with the first request of all is no fault of any.
                await client.get("/agents")
                yield server


def repeated(text: bytes, size: int) -> bytes:
    return text * (size // len(text))


def values(size: int) -> Iterator[tuple[str, bytes]]:
    """Yield JSON of about this size."""
    yield "zeros", b"[" + repeated(b"0,", size) + b"0]"
    yield "empty lists", b"[" + repeated(b"[],", size) + b"[]]"
    yield "nested", repeated(b"[", size // 2) + repeated(b"]", size // 2)
    yield "objects", b"[" + repeated(b'{"tool_call_id":"a","confirmed":1},', size) + b"{}]"
    yield "keys", b"{" + b",".join(b'"%07d":1' % number for number in range(size // 12)) + b"}"
    yield "a long text", b'"' + b"A" * size + b'"'


def json_bodies(fields: list[str], size: int) -> Iterator[Body]:
    sent = {"Content-Type": JSON}
    share = size // (len(fields) + 1) - 100
    for (label, large), (_, small) in zip(values(size - 100), values(share), strict=True):
        yield label, large, sent
        yield f"{label} in each", b"{" + b",".join(b'"%s":%s' % (name.encode(), small) for name in fields) + b"}", sent
    # As much of each as may be: all of it is looked at.
    few = b"[" + repeated(b'{"tool_call_id":0},', min(share, 19_000)) + b"{}]"
    yield "few", b"{" + b",".join(b'"%s":%s' % (name.encode(), few) for name in fields) + b"}", sent


def forms(fields: list[str], size: int) -> Iterator[Body]:
    sent = {"Content-Type": URLENCODED}
    for text in (b"&", b"a&", b"a=1&", b"%41"):
        yield text.decode(), repeated(text, size), sent
    share = size // (len(fields) + 1) - 100
    for label, value in (("percent signs", b"%41"), ("zeros", b"0,"), ("lists", b"[],"), ("text", b"A")):
        in_each = (b"%s=[%s0]" % (name.encode(), repeated(value, share)) for name in fields)
        yield f"{label} in each", b"&".join(in_each), sent


def parts(fields: list[str], size: int) -> Iterator[Body]:
    def part(name: str, value: bytes, more: str = "") -> bytes:
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        return head.encode() + value + b"\r\n"

    for label, piece in (("line ends", b"\r\n"), ("edges", b"\r\n--edg"), ("dashes", b"--"), ("headers", b"a:b\r\n")):
        yield f"{label} as a field", part("message", repeated(piece, size - 200)) + b"--edge--", MULTIPART_TYPE
        yield f"{label} as a head", b"--edge\r\n" + repeated(piece, size - 200), MULTIPART_TYPE
        file = part("files", repeated(piece, size - 200), '; filename="a.txt"')
        yield f"{label} as a file", file + b"--edge--", MULTIPART_TYPE
    for more in ("", '; filename="a.txt"'):
        yield f"many parts{more}", part("files", b"a", more) * (size // 100), MULTIPART_TYPE
    share = size // (len(fields) + 1) - 200
    for label, value in (("zeros", b"0,"), ("pictures", b"QUFB"), ("spaces", b"Q ")):
        content = repeated(value, share)
        each = (
            part(name, b'[{"content":"%s"}]' % content if label != "zeros" else b"[%s0]" % content) for name in fields
        )
        yield f"{label} in each", b"".join(each) + b"--edge--", MULTIPART_TYPE


def pictures(size: int) -> Iterator[Body]:
    sent = {"Content-Type": JSON}
    for text in (b"QUFB", b"Q ", b"=", b"QQ=="):
        uri = b'"data:image/png;base64,' + repeated(text, size // 4) + b'"'
        content = b'{"prompt":"x","agent_run_id":1,"images":[' + b",".join([uri] * 3) + b"]}"
        yield f"pictures of {text.decode()}", content, sent


def bodies(server: Server, route: str, size: int) -> Iterator[Body]:
    """Yield bodies of every kind that the route reads."""
    if fields := server.fields(route, JSON):
        yield from json_bodies(fields, size)
    if names := server.fields(route, URLENCODED) or server.fields(route, MULTIPART):
        yield from forms(names, size)
        yield from parts(names, size)
    if fields and route in WITH_PICTURES:
        yield from pictures(size)


async def test_no_body_stops_the_others(server: Server) -> None:
    seen: set[str] = set()
    for route in server.operations:
        if route.startswith("GET "):
            continue
        if route in WITH_PICTURES:
            for label, content, headers in bodies(server, route, LARGE):
                # One route after another reads them in the same way.
                if label in AT_FULL_SIZE - seen:
                    seen.add(label)
                    await server.send(route, label, content=content, headers=headers)
        for label, content, headers in bodies(server, route, SMALL if route in WITH_PICTURES else PLAIN):
            if route in WITH_PICTURES or label in EVERYWHERE:
                await server.send(route, label, content=content, headers=headers)
    assert seen == AT_FULL_SIZE


async def test_no_address_and_no_header_field_stops_the_others(server: Server) -> None:
    digits = "1" * 5000
    queries = {
        "many": "&".join(f"a{number}=" for number in range(800)) + "&status=A" * 700,
        "long": f"user_id={quote('%' * 1000)}&limit={digits}&page={digits}",
    }
    headers = [
        *((f"x-{number}", "a") for number in range(200)),
        ("authorization", "Bearer " + "eyJa-" * 10_000),
        ("last-event-id", digits),
    ]
    for route in (*server.operations, "GET /openapi.json", "GET /docs"):
        if route.startswith("GET "):
            for label, query in queries.items():
                await server.send(route, label, f"?{query}", headers=headers)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"params": {"a": "b" * 2**14}}, 414),
        ({"headers": [(f"x-{number}", "a") for number in range(300)]}, 431),
        ({"headers": {"x": "a" * 2**17}}, 431),
    ],
)
async def test_a_head_has_a_limit(server: Server, request_: dict[str, Any], status: int) -> None:
    for path, keys in (("/agents", {"detail"}), ("/v1/users/me", {"message", "status_code"}), ("/health", {"detail"})):
        refused = await server.client.get(path, **request_)
        assert (refused.status_code, refused.json().keys()) == (status, keys)


async def test_a_body_is_smaller_where_no_picture_may_be(server: Server) -> None:
    for route in server.operations:
        method, _, path = route.partition(" ")
        if method == "GET":
            continue
        refused = await server.client.request(method, path.format_map(server.names), content=b"a" * (PLAIN + 1))
        assert (refused.status_code == 413) is (route not in WITH_PICTURES), route
        if refused.status_code == 413:
            assert f"larger than {PLAIN} bytes" in refused.text
    announced = {"Content-Length": "1" * 5000}
    assert (await server.client.post("/sessions", headers=announced)).status_code == 413


async def test_an_answer_names_the_first_errors_and_repeats_no_long_input(server: Server) -> None:
    resume = "/v1/organizations/1/agent/run/resume"
    many = await server.client.post(resume, json={"agent_run_id": "x", "prompt": 1, "images": [0] * 100})
    assert many.status_code == 422
    assert len(many.json()["detail"]) == 20
    long = await server.client.post(resume, json={"prompt": ["a" * 2000], "tools": [0] * 1000, "agent_run_id": "x"})
    errors = {".".join(map(str, item["loc"])): item for item in long.json()["detail"]}
    assert errors.keys() == {"body.prompt", "body.tools.0", "body.agent_run_id"}
    assert "input" not in errors["body.prompt"]
    assert errors["body.agent_run_id"]["input"] == "x"
    key = await server.client.post("/approvals/a/resolve", json={"status": "approved", "resolution_data": "s" * 5000})
    assert len(key.content) < 1000
    unknown = {"tools": [{"tool_call_id": "a", "tool_args": {"k" * 100_000: 1}}], "agent_run_id": 1, "prompt": ""}
    assert len((await server.client.post(resume, json=unknown)).content) < 10_000
