"""The image's health check: it asks the server on the port that it was started with, and a worker nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from unpause.cli.health import check

_SERVE = ["/opt/unpause/bin/python", "/opt/unpause/bin/unpause", "serve", "--host", "0.0.0.0"]  # noqa: S104 - it is only read
# Nobody listens there.
_NOBODY = "1"


class Health(BaseHTTPRequestHandler):
    """Answers as a server whose background work goes on, or has died."""

    status = 200

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield str(server.server_port)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_server_is_asked_on_the_port_that_it_was_given(
    port: str, monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    monkeypatch.setattr(Health, "status", status)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for command, environment in (
        ([*_SERVE, "--port", port, ""], {"UNPAUSE_PORT": _NOBODY}),
        ([*_SERVE, f"--port={port}", ""], {}),
        ([*_SERVE, ""], {"UNPAUSE_PORT": port}),
    ):
        assert check(command, environment) == code


def test_a_server_that_does_not_answer_is_not_well_and_what_is_no_server_is_not_asked() -> None:
    assert check([*_SERVE, "--port", _NOBODY], {}) == 1
    for command in (["unpause", "worker"], ["unpause", "db", "upgrade"]):
        assert check(command, {"UNPAUSE_PORT": _NOBODY}) == 0
