"""A real HTTP server that answers like OpenAI's chat completions, from a script.

It stands on the standard library alone, so that a mistake in the stack under test cannot hide in it. It
streams or answers whole, sends OpenAI's error bodies, can cut a stream in its middle, and like OpenAI refuses
a history whose tool calls and tool results do not match: a test that continues a run wrongly fails here.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class TextReply:
    """An answer in words, streamed in `pieces` deltas (fewer if the text has fewer characters)."""

    text: str
    pieces: int = 3


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model asks for; `arguments` as a string is sent as it is, so it may be broken JSON."""

    id: str
    name: str
    arguments: Mapping[str, object] | str

    @property
    def arguments_json(self) -> str:
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True)
class ToolCallsReply:
    """Tool calls, each streamed as its head and then its arguments in several deltas."""

    calls: Sequence[ToolCall]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """An HTTP error. Without `body` it is OpenAI's for that status.

    The client is told not to try again (`x-should-retry`, which OpenAI's clients obey): its pause before the
    next attempt would only make the test wait.
    """

    status: int
    body: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class CutReply:
    """Stream `text`, then close the connection without an end; not streamed, close it inside the body.

    OpenAI's client repeats a request whose whole answer broke off, after a pause: prefer the stream.
    """

    text: str


Reply: TypeAlias = "TextReply | ToolCallsReply | ErrorReply | CutReply"
Script: TypeAlias = "Callable[[dict[str, Any]], Reply]"


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """What a client sent; the names of `headers` are in lower case."""

    body: dict[str, Any]
    headers: dict[str, str]


def replies_in_turn(*replies: Reply) -> Script:
    """Return a script that gives each reply once, in this order, and fails the test at a request too many."""
    waiting = iter(replies)
    lock = threading.Lock()

    def script(_request: dict[str, Any]) -> Reply:
        with lock:
            reply = next(waiting, None)
        if reply is None:
            raise AssertionError(f"more than the {len(replies)} scripted requests came")
        return reply

    return script


class OpenAIServer(ThreadingHTTPServer):
    """The server, on a free port of 127.0.0.1 for the length of a `with` block.

    `script` is called for each valid request with its JSON body, in a thread of its own, so requests at the
    same time mean calls at the same time. What it raises drops the connection and is raised again at the end
    of the block. Each connection carries one request, so that a client's pool keeps none open after a test.
    """

    daemon_threads = False  # joined in `server_close`, so that no answer outlives its test
    request_queue_size = 128

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _ChatCompletions)
        self.script = script
        self._requests: list[ReceivedRequest] = []
        self._failures: list[BaseException] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def base_url(self) -> str:
        """The address a client needs, up to `/v1`."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The chat requests received until now, refused ones too, in the order of their arrival."""
        with self._lock:
            return list(self._requests)

    def record(self, request: ReceivedRequest) -> int:
        """Keep a request and return its number, from 1."""
        with self._lock:
            self._requests.append(request)
            return len(self._requests)

    def server_bind(self) -> None:
        # HTTPServer would look its own name up in the DNS.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - signature
        failure = sys.exception()
        # A client that went away is no failure of the script, some tests want just that.
        if failure is not None and not isinstance(failure, ConnectionError):
            with self._lock:
                self._failures.append(failure)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()
        if self._failures:
            # Also in place of an error in the block: that one came of this one.
            raise self._failures[0]


class _ChatCompletions(BaseHTTPRequestHandler):
    """One connection: one request, one answer."""

    server: OpenAIServer
    protocol_version = "HTTP/1.1"
    timeout = 10  # seconds for a client that connects and then says nothing

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/chat/completions":
            self._send_error(ErrorReply(404, _error("invalid_request_error", None, "Unknown route.")))
            return
        request: dict[str, Any] = json.loads(sent)
        headers = {name.lower(): value for name, value in self.headers.items()}
        number = self.server.record(ReceivedRequest(request, headers))
        fault = _history_fault(request["messages"])
        reply = ErrorReply(400, fault) if fault else self.server.script(request)
        if isinstance(reply, ErrorReply):
            self._send_error(reply)
        elif request.get("stream"):
            self._send_stream(_chunks(request, reply, number), is_cut=isinstance(reply, CutReply))
        else:
            self._send_whole(_completion(request, reply, number), is_cut=isinstance(reply, CutReply))

    def _send_error(self, reply: ErrorReply) -> None:
        body = _ERRORS.get(reply.status, _SERVER_ERROR) if reply.body is None else reply.body
        content = json.dumps(body).encode()
        self._send_head(reply.status, {**_json_headers(content), "x-should-retry": "false"})
        self.wfile.write(content)

    def _send_whole(self, body: Mapping[str, object], *, is_cut: bool) -> None:
        content = json.dumps(body).encode()
        self._send_head(200, _json_headers(content))
        self.wfile.write(content[: len(content) // 2] if is_cut else content)

    def _send_stream(self, chunks: Iterator[dict[str, Any]], *, is_cut: bool) -> None:
        """Send server-sent events in HTTP chunks; a cut stream lacks the last chunk, the empty one."""
        self._send_head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for chunk in chunks:
            self._send_event(json.dumps(chunk))
        if not is_cut:
            self._send_event("[DONE]")
            self.wfile.write(b"0\r\n\r\n")

    def _send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(event), event))

    def _send_head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing: a test's output is its own."""


def _json_headers(content: bytes) -> dict[str, str]:
    return {"Content-Type": "application/json", "Content-Length": str(len(content))}


def _error(kind: str, code: str | None, message: str) -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


_ERRORS = {
    401: _error("invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    429: _error("requests", "rate_limit_exceeded", "Rate limit reached."),
}
_SERVER_ERROR = _error("server_error", None, "The server had an error while processing your request.")


def _history_fault(messages: Sequence[Mapping[str, Any]]) -> dict[str, object] | None:
    """Return the error for a history in which calls and results do not match, None for a sound one.

    Every call of an assistant's message has exactly one result, directly after that message.
    """
    unanswered: set[str] = set()
    for message in [*messages, {"role": "end"}]:
        if message["role"] == "tool":
            if message["tool_call_id"] not in unanswered:
                fault = f"The tool message for {message['tool_call_id']} answers no open call before it."
                return _error("invalid_request_error", None, fault)
            unanswered.remove(message["tool_call_id"])
        elif unanswered:
            fault = f"These tool calls have no tool message directly after them: {sorted(unanswered)}."
            return _error("invalid_request_error", None, fault)
        else:
            unanswered = {call["id"] for call in message.get("tool_calls") or ()}
    return None


def _completion(
    request: dict[str, Any], reply: TextReply | ToolCallsReply | CutReply, number: int
) -> dict[str, object]:
    """Return the whole answer to a request that does not stream."""
    message: dict[str, object] = {"role": "assistant", "content": None, "refusal": None}
    if isinstance(reply, ToolCallsReply):
        message["tool_calls"] = [_tool_call(call, call.arguments_json) for call in reply.calls]
    else:
        message["content"] = reply.text
    return {
        **_envelope("chat.completion", request, number),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(reply)}],
        "usage": _usage(request, reply),
    }


def _chunks(
    request: dict[str, Any], reply: TextReply | ToolCallsReply | CutReply, number: int
) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a streamed answer; one that is cut has neither a finish reason nor a usage."""
    envelope = _envelope("chat.completion.chunk", request, number)
    counts_tokens = (request.get("stream_options") or {}).get("include_usage", False)
    if counts_tokens:
        envelope["usage"] = None

    def chunk(delta: dict[str, object], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return {**envelope, "choices": [choice]}

    for delta in _call_deltas(reply) if isinstance(reply, ToolCallsReply) else _text_deltas(reply):
        yield chunk(delta)
    if isinstance(reply, CutReply):
        return
    yield chunk({}, _finish(reply))
    if counts_tokens:
        yield {**envelope, "choices": [], "usage": _usage(request, reply)}


def _text_deltas(reply: TextReply | CutReply) -> Iterator[dict[str, object]]:
    yield {"role": "assistant", "content": "", "refusal": None}
    for piece in _split(reply.text, reply.pieces if isinstance(reply, TextReply) else 2):
        yield {"content": piece}


def _call_deltas(reply: ToolCallsReply) -> Iterator[dict[str, object]]:
    yield {"role": "assistant", "content": None, "refusal": None}
    for index, call in enumerate(reply.calls):
        yield {"tool_calls": [{"index": index, **_tool_call(call, "")}]}
        for piece in _split(call.arguments_json, 3):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _tool_call(call: ToolCall, arguments: str) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _split(text: str, pieces: int) -> list[str]:
    """Cut a text into at most so many pieces, all but the last of one length."""
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)]


def _finish(reply: TextReply | ToolCallsReply | CutReply) -> str:
    return "tool_calls" if isinstance(reply, ToolCallsReply) else "stop"


def _envelope(kind: str, request: dict[str, Any], number: int) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": kind,
        "created": int(time.time()),
        "model": request["model"],
        "system_fingerprint": "fp_fake",
    }


def _usage(request: dict[str, Any], reply: TextReply | ToolCallsReply | CutReply) -> dict[str, int]:
    """Count a token for every four characters begun: the same request costs the same in every run."""
    answer = "".join(c.arguments_json for c in reply.calls) if isinstance(reply, ToolCallsReply) else reply.text
    prompt, completion = -(-len(json.dumps(request["messages"])) // 4), -(-len(answer) // 4)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
