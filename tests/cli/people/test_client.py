"""What the commands make of servers that fail, of proxies, and of lost connections."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.cli.here import Here
from unpause.cli.exits import CommandFailed, Exit
from unpause.cli.people import client, sse
from unpause.cli.people.client import Client
from unpause.cli.people.sse import KEEP_ALIVE, Frame, read_frames

TOKEN = "unp_AAAAAAAA.canary"

# What is answered in turn: a status, header fields, and the body; None closes the connection without an answer.
Answer = tuple[int, dict[str, str], str | bytes] | None


class Scripted(HTTPServer):
    """A server that gives these answers, and keeps the header fields of the requests."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.seen: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Scripted

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))
        answer = self.server.answers.pop(0)
        if answer is None:
            return
        status, fields, body = answer
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(ConnectionError):
            self.wfile.write(body if isinstance(body, bytes) else body.encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def scripted() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(*answers: Answer) -> Scripted:
        server = Scripted(*answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def with_token(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setenv("UNPAUSE_TOKEN", TOKEN)
    return here


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ((400, {}, '{"detail": "wrong"}'), 2, "wrong"),
        ((422, {}, '{"detail": [{"loc": ["body", "values", "to"], "msg": "too\\u001b"}]}'), 2, r"values.to: too\x1b"),
        ((401, {}, '{"detail": "no"}'), 5, "refuses the token: `unpause login http://"),
        ((404, {}, '{"detail": "Not Found"}'), 3, "does not know /inbox: it is no Unpause server, or an older one"),
        ((409, {}, '{"detail": "Late.", "decision": {"decision": "reject", "by": "olga", "at": "now", "note": "no"}}'),
         4, "Late: reject by olga at now (no)"),
        ((429, {}, '{"detail": "slower"}'), 1, "slower"),
        ((500, {}, "<html>"), 1, "answered with status 500"),
        ((503, {}, '{"detail": "starting"}'), 6, "starting"),
        ((200, {}, "<html>"), 1, "did not answer with JSON: it is no Unpause server"),
        ((307, {"Location": "http://127.0.0.1:1/"}, ""), 2, "redirects to http://127.0.0.1:1/: use that server's URL"),
        (None, 6, "cannot be reached: Server disconnected without sending a response."),
    ],
    ids=str,
)  # fmt: skip
def test_a_refusal_becomes_a_message_in_one_line_and_an_exit_code(
    scripted: Callable[..., Scripted], with_token: Here, answer: Answer, code: int, words: str
) -> None:
    done = with_token.run("inbox", "--url", scripted(answer).url)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "canary" not in done.stderr


ELSEWHERE = [
    ("{}", "The server's answer has no 'data'"),
    ('{"data": null}', "The server's answer has no list of objects as its 'data'"),
    ('{"data": [1]}', "The server's answer has no list of objects as its 'data'"),
    ('{"data": [{}]}', "The server's answer has no '"),
    ('{"data": NaN}', "did not answer with JSON"),
    ("[]", "did not answer with JSON"),
    ("[" * 100_000, "did not answer with JSON"),
]


@pytest.mark.parametrize(("body", "words"), ELSEWHERE, ids=lambda value: value[:40])
@pytest.mark.parametrize("command", ["inbox", "runs", "grants", "audit"])
def test_what_a_server_of_another_kind_or_version_answers_is_told_in_one_line(
    scripted: Callable[..., Scripted], with_token: Here, command: str, body: str, words: str
) -> None:
    done = with_token.run(command, "--url", scripted((200, {}, body)).url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr
    assert "it is no Unpause server" in done.stderr


@pytest.mark.parametrize("arguments", [["run", "files", "hi"], ["status"], ["show", "abc"]], ids=" ".join)
def test_an_answer_that_lacks_what_a_command_reads_is_told_in_one_line(
    scripted: Callable[..., Scripted], with_token: Here, arguments: list[str]
) -> None:
    server = scripted(*[(200, {}, '{"more": 1}')] * 4)
    done = with_token.run(*arguments, "--url", server.url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "The server's answer has no '" in done.stderr


@pytest.mark.parametrize("data", ["{", "[]", "NaN", '"a"'])
def test_a_stream_of_something_else_than_objects_is_told_in_one_line(
    scripted: Callable[..., Scripted], with_token: Here, data: str
) -> None:
    started: Answer = (200, {}, '{"run_id": "a", "status": "PENDING"}')
    server = scripted(started, (200, {}, f"event: RunContent\ndata: {data}\n\n"))
    done = with_token.run("run", "files", "hi", "--follow", "--url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"unpause: {server.url} streams something else than JSON: it is no Unpause server\n"


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_does_not_end_is_not_read_to_its_end(
    scripted: Callable[..., Scripted],
    with_token: Here,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    encoding: str,
) -> None:
    monkeypatch.setattr(client, "_MOST_BYTES", 10_000)
    body = b"x" * 20_000
    body = gzip.compress(body) if encoding == "gzip" else body
    server = scripted((status, {"Content-Encoding": encoding}, body))
    done = with_token.run("inbox", "--url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"unpause: {server.url} sends an answer without end: it is no Unpause server\n"


@pytest.mark.parametrize("stream", ["data: " + "x" * 20_000, "data: x\n" * 10_000], ids=["line", "lines"])
def test_a_frame_that_does_not_end_is_not_read_to_its_end(
    scripted: Callable[..., Scripted], with_token: Here, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setattr(sse, "_MOST_BYTES", 10_000)
    server = scripted((200, {}, '{"run_id": "a", "status": "PENDING"}'), (200, {}, stream))
    done = with_token.run("run", "files", "hi", "--follow", "--url", server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"unpause: {server.url} streams something else than JSON: it is no Unpause server\n"


def test_the_status_of_a_server_that_is_not_ready_says_what_is_missing(
    scripted: Callable[..., Scripted], with_token: Here
) -> None:
    missing = '[{"part": "schema", "detail": "run `unpause db upgrade`"}, {"part": "clock", "detail": "is off"}]'
    server = scripted(
        (200, {}, '{"status": "ok"}'),
        (503, {}, f'{{"status": "unavailable", "reason": "run `unpause db upgrade`", "missing": {missing}}}'),
        (503, {}, '{"detail": "not now"}'),
        (403, {}, '{"detail": "no"}'),
    )
    done = with_token.run("status", "--url", server.url)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{server.url} is unavailable",
        "  missing             schema: run `unpause db upgrade`",
        "  missing             clock: is off",
    ]
    assert done.stderr == "unpause: The server is not ready: run `unpause db upgrade`\n"


def test_a_decision_whose_answer_was_lost_is_sent_again_with_its_key(scripted: Callable[..., Scripted]) -> None:
    server = scripted(None, (200, {}, '{"run": {}}'))
    with Client(server.url, TOKEN) as client:
        assert client.post_once("/inbox/x/decide", json={}) == {"run": {}}
    first, second = (seen["Idempotency-Key"] for seen in server.seen)
    assert first == second


def test_what_has_no_key_is_sent_once(scripted: Callable[..., Scripted]) -> None:
    server = scripted(None)
    with Client(server.url, TOKEN) as client, pytest.raises(CommandFailed) as failed:
        client.post("/runs/x/cancel")
    assert failed.value.code is Exit.UNREACHABLE
    assert len(server.seen) == 1


def test_a_stream_goes_on_after_its_last_event(scripted: Callable[..., Scripted]) -> None:
    server = scripted(
        (200, {}, 'id: 7\nevent: a\ndata: {"n": 1}\n\n'),
        (503, {}, "{}"),
        (200, {}, 'id: 8\nevent: b\ndata: {"n": 2}\n\nid: 9\nevent: cut off\n'),
        (204, {}, ""),
    )
    with Client(server.url, None) as client:
        assert [frame.name for frame in client.stream("/events", 60.0)] == ["opened", "a", "opened", "b"]
    assert [seen.get("Last-Event-ID") for seen in server.seen] == [None, "7", "7", "8"]


def test_a_stream_gives_up_when_the_server_stays_away(scripted: Callable[..., Scripted]) -> None:
    server = scripted((200, {}, 'id: 7\nevent: a\ndata: {"n": 1}\n\n'), (503, {}, "{}"))
    with Client(server.url, None) as client:
        frames = client.stream("/events", 0.0)
        assert [next(frames).name, next(frames).name] == ["opened", "a"]
        with pytest.raises(CommandFailed) as failed:
            next(frames)
    assert failed.value.code is Exit.UNREACHABLE


def test_only_a_line_feed_ends_a_line_of_an_event() -> None:
    text = ': keepalive\n\nid: 1\r\nevent: a\r\ndata: {"t":\ndata: "x\u2028\x85y"}\n\nretry: 5\n\ndata: {"cut'
    chunks = [text.encode()[at : at + 3] for at in range(0, len(text.encode()), 3)]
    assert list(read_frames(chunks)) == [KEEP_ALIVE, Frame("a", "1", {"t": "x\u2028\x85y"})]
