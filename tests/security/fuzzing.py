"""Sends odd requests to a server process from many threads, and judges what it answers.

What is judged: each answer comes within `ANSWER_SECONDS`, has no status from 500 on, and says what is wrong as its API
says it. A request that breaks the rules of HTTP may also be answered by closing the connection, or in plain text.
"""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPResponse
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import unquote_to_bytes

import httpx

from tests.security.odd_json import ADMIN, AGENT, APPROVAL, KEY, RUN, SESSION, STRANGER, USER
from tests.security.odd_requests import Request
from tests.support.processes import ServerProcess
from tests.support.tokens import add_organization, first_token, new_token, proof

Json: TypeAlias = dict[str, Any]

ANSWER_SECONDS: Final = 30.0
NO_ANSWER: Final = 0

_THREADS: Final = 8
# Fewer than threads: some requests are about the same run at the same time.
_RUNS: Final = 4
_AHEAD: Final = 2 * _THREADS
_PIECE: Final = 64 * 1024
_CODEGEN_PREFIX: Final = b"/v1/"
# Codegen's API says this, too, in FastAPI's own words.
_NO_SUCH_ROUTE: Final = ({"detail": "Not Found"}, {"detail": "Method Not Allowed"})
_NAMING: Final = (RUN.encode(), SESSION.encode(), APPROVAL.encode(), str(KEY).encode())


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status `NO_ANSWER` where the server just closed the connection."""

    status: int
    media_type: str
    body: bytes
    seconds: float


@dataclass
class Findings:
    """What was seen: how many requests had which status, the slowest answer, and what was wrong, with the request."""

    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    faults: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many requests were judged."""
        return sum(self.statuses.values())


class Crowd:
    """Many clients of one server, with tokens of an administrator, a user and a stranger, and paused runs to ask about.

    As a context manager it waits at the end until every request was answered.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.findings = Findings()
        self._server = server
        self._url = httpx.URL(server.address)
        add_organization(server, "Rivals")
        self._tokens = {
            ADMIN: first_token(server),
            USER: new_token(server, "--user", "anna"),
            STRANGER: new_token(server, "--user", "anna", "--org", "2"),
        }
        self._client = server.client(headers=proof(self._tokens[ADMIN]))
        self._numbers = count()
        self._runs: list[Mapping[str, str]] = [self._new_run(number) for number in range(_RUNS)]
        self._free = threading.BoundedSemaphore(_AHEAD)
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS)

    def send(self, request: Request) -> None:
        """Have one of the threads send the request; wait while too many are still to be sent."""
        self._free.acquire()
        self._threads.submit(self._ask_and_judge, next(self._numbers), request)

    def wait(self) -> None:
        """Return once all that was sent is answered, and the server still answers."""
        for _ in range(_AHEAD):
            self._free.acquire()
        for _ in range(_AHEAD):
            self._free.release()
        health = self._client.get("/health")
        assert health.status_code == 200, health.text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown()
        self._client.close()

    def _ask_and_judge(self, number: int, request: Request) -> None:
        try:
            place = number % _RUNS
            names = {**self._tokens, **self._runs[place]}
            answer = ask(self._url, request, request.to(names))
            wrong = what_is_wrong(request, answer)
            with self._lock:
                self.findings.statuses[answer.status] += 1
                self.findings.slowest = max(self.findings.slowest, answer.seconds)
                if wrong is not None:
                    self.findings.faults.append(f"{wrong}\n  {shown(request)}\n  {answer.body[:500]!r}")
            if 200 <= answer.status < 300 and request.method != "GET" and _names_something(request):
                self._runs[place] = self._new_run(place)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: it is told with the other faults
            with self._lock:
                self.findings.faults.append(f"{error!r}\n  {shown(request)}")
        finally:
            self._free.release()

    def _new_run(self, place: int) -> Mapping[str, str]:
        """Return the names of a new run that is paused: every second one waits for an approval."""
        message = "call deploy delete" if place % 2 else "call delete fill shell"
        created = self._client.post(f"/agents/{AGENT}/runs", data={"message": message, "stream": "false"})
        assert created.status_code == 200, created.text
        run: Json = created.json()
        assert run["status"] == "PAUSED", run
        listed = self._client.get("/v1/organizations/1/agent/runs", params={"limit": 100})
        assert listed.status_code == 200, listed.text
        (key,) = [item["id"] for item in listed.json()["items"] if item["web_url"].endswith(run["run_id"])]
        approvals = [tool["approval_id"] for tool in run["tools"] if tool.get("approval_id")]
        return {
            RUN: run["run_id"],
            SESSION: run["session_id"],
            APPROVAL: approvals[0] if approvals else APPROVAL,
            str(KEY): str(key),
        }


def ask(url: httpx.URL, request: Request, content: bytes) -> Answer:
    """Send the bytes on a connection of their own; return what came back. Raises TimeoutError where that takes long."""
    began = time.monotonic()
    with socket.create_connection((url.host, url.port or 0), ANSWER_SECONDS) as connection:
        # The server may answer before it has read everything, and close.
        with suppress(ConnectionError):
            connection.sendall(content)
            if not request.keeps_to_http:
                _end_sending(connection)
        with HTTPResponse(connection, method=request.method) as response:
            try:
                response.begin()
                body = response.read1(_PIECE) if _is_endless(request) else _read(response, began + ANSWER_SECONDS)
            except (HTTPException, ConnectionError):
                return Answer(NO_ANSWER, "", b"", time.monotonic() - began)
            media_type = response.headers.get_content_type()
            return Answer(response.status, media_type, body, time.monotonic() - began)


def _end_sending(connection: socket.socket) -> None:
    """Tell the server that nothing follows: whoever waits for the rest of it waits in vain."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        # The server has closed: that is no ConnectionError here.
        if error.errno != errno.ENOTCONN:
            raise


def _is_endless(request: Request) -> bool:
    """Whether the answer is a stream that goes on as long as somebody reads it."""
    return request.method == "GET" and request.target.partition(b"?")[0] == b"/inbox/events"


def _read(response: HTTPResponse, until: float) -> bytes:
    """Return the whole body; a stream that only says that it is alive does not last for ever."""
    body = b""
    while piece := response.read1(_PIECE):
        body += piece
        if time.monotonic() > until:
            raise TimeoutError("the answer did not end")
    return body


def what_is_wrong(request: Request, answer: Answer) -> str | None:
    """Return what the server must not answer, or None where the answer is as it has to be."""
    if answer.seconds > ANSWER_SECONDS:
        return f"took {answer.seconds:.0f} seconds"
    if answer.status == NO_ANSWER:
        return "no answer" if request.keeps_to_http else None
    if answer.status >= 500:
        return f"status {answer.status}"
    if answer.status < 400 or request.method == "HEAD":
        return None
    if answer.media_type != "application/json":
        is_preflight = request.method == "OPTIONS" and any(
            name == b"Access-Control-Request-Method" for name, _ in request.fields
        )
        return None if is_preflight or not request.keeps_to_http else f"status {answer.status} as {answer.media_type}"
    return _wrong_shape(request, answer)


def _wrong_shape(request: Request, answer: Answer) -> str | None:
    said = json.loads(answer.body)
    if not isinstance(said, dict):
        return f"status {answer.status} without an object"
    is_validation = answer.status == 422 and isinstance(said.get("detail"), list)
    path = b"/" + request.target.split(b"/", 3)[-1] if request.target.startswith(b"http:") else request.target
    is_codegen = unquote_to_bytes(path).startswith(_CODEGEN_PREFIX)
    if is_validation or said in _NO_SUCH_ROUTE:
        return None
    if is_codegen:
        fits = isinstance(said.get("message"), str) and said.get("status_code") == answer.status
    else:
        fits = isinstance(said.get("detail"), str)
    return None if fits else f"status {answer.status} in another shape"


def open_files(server: ServerProcess) -> int:
    """Return how many file descriptors the server's process has open."""
    return len(list(Path(f"/proc/{server.pid}/fd").iterdir()))


def shown(request: Request) -> str:
    """Return the request for a message about it."""
    text = repr(request)
    return text if len(text) < 3000 else f"{text[:2500]} … {text[-400:]}"


def _names_something(request: Request) -> bool:
    return any(name in request.target or name in request.body for name in _NAMING)
