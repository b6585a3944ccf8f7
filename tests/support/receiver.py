"""A real HTTP server that hears webhooks, answers what a test says, and notes what it heard."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

from standardwebhooks.webhooks import Webhook

# Seconds for anything a test waits for. Reached only when something is wrong.
DEADLINE: Final = 30.0

# A status, or an address to redirect to, or None for an answer that never comes.
Answer: TypeAlias = int | str | None


@dataclass(frozen=True, slots=True)
class Heard:
    """One request that arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    server_name: str | None = None

    @property
    def id(self) -> str:
        """The message's id."""
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        """The message's type."""
        return str(self.read()["type"])

    def read(self) -> dict[str, Any]:
        """Return the message."""
        message: dict[str, Any] = json.loads(self.body)
        return message

    def verified(self, secret: str) -> dict[str, Any]:
        """Return the message as a receiver with this secret has it; raise WebhookVerificationError."""
        webhook = Webhook(secret if secret.startswith("whsec_") else secret.encode())
        message: dict[str, Any] = webhook.verify(self.body, dict(self.headers))
        return message


class Receiver:
    """Listens on a free port of ``host`` while it is entered; after ``answers`` are used up it answers 200."""

    def __init__(
        self, *answers: Answer, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._answers = list(answers)
        self._heard: list[Heard] = []
        self._arrived = threading.Condition()
        self._over = threading.Event()
        self._server = _Server((host, port), self)
        self._names: dict[ssl.SSLObject | ssl.SSLSocket, str] = {}
        if tls is not None:
            tls.sni_callback = self._named
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="receiver")
        self.port: int = self._server.server_port
        scheme = "http" if tls is None else "https"
        self.address = f"{scheme}://{host}:{self.port}"
        self.url = f"{self.address}/hook?a=b"

    @property
    def received(self) -> list[Heard]:
        """All that arrived so far."""
        with self._arrived:
            return list(self._heard)

    def wait_for(self, count: int) -> list[Heard]:
        """Wait until so many requests have arrived; return all of them."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self._heard) >= count, DEADLINE):
                message = f"{len(self._heard)} of {count} messages arrived"
                raise AssertionError(message)
            return list(self._heard)

    async def hears(self, count: int) -> list[Heard]:
        """Wait until so many requests have arrived, beside a server in this process; return all of them."""
        return await asyncio.to_thread(self.wait_for, count)

    def note(self, received: Heard) -> Answer:
        """Note a request; return what it is answered."""
        with self._arrived:
            self._heard.append(received)
            self._arrived.notify_all()
            return self._answers.pop(0) if self._answers else 200

    def wait_until_over(self) -> None:
        """Return when the test has ended."""
        self._over.wait(DEADLINE)

    def name_of(self, connection: object) -> str | None:
        """Return the server name that TLS was asked for on this connection."""
        return self._names.get(connection)  # type: ignore[call-overload,no-any-return]

    def _named(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None:
            self._names[connection] = name

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join(DEADLINE)
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client that goes away, or does not trust the certificate, is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        receiver = self.server.receiver
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = receiver.note(Heard(self.path, headers, body, receiver.name_of(self.connection)))
        if answer is None:
            receiver.wait_until_over()
            return
        if isinstance(answer, str):
            self.send_response(307)
            self.send_header("Location", answer)
        else:
            self.send_response(answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
