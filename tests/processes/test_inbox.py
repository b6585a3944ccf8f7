"""The inbox of a server process: a decision outlives a kill -9, and streams go to clients and end with them."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.processes.conversation import read_settled_run
from tests.support.processes import DEADLINE, ServerProcess


def test_a_decision_is_not_lost_when_the_server_is_killed_before_the_run_goes_on(tmp_path: Path) -> None:
    # A server that executes nothing takes the decision; one that does finds the run at its start.
    with ServerProcess(tmp_path, command="demo") as server, server.client() as client:
        run = client.post("/agents/files/runs", data={"message": "delete notes.txt", "stream": "false"}).json()
        assert run["status"] == "PAUSED", run
        (item,) = client.get("/inbox").json()["data"]
        answer = client.post(f"/inbox/{item['requirement_id']}/decide", json={"decision": "reject", "note": "no"})
        assert answer.json()["continued"] is True
        server.kill()
        server.start()
        with server.client() as after:
            shown = after.get(f"/inbox/{item['requirement_id']}").json()
            assert (shown["status"], shown["decision"]["note"]) == ("decided", "no")
            assert read_settled_run(after, run)["status"] == "COMPLETED"


def test_a_client_reads_events_as_they_come_and_is_forgotten_when_it_goes(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, command="demo", environment={"UNPAUSE_KEEPALIVE_SECONDS": "1"}) as server:
        place = urlsplit(server.address)
        with (
            server.client() as client,
            socket.create_connection((place.hostname, place.port), timeout=DEADLINE) as stream,
        ):
            stream.sendall(f"GET /inbox/events HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
            read = _read_until(stream, b"\r\n\r\n")
            assert b"text/event-stream" in read
            client.post("/agents/files/runs", data={"message": "delete notes.txt", "stream": "false"})
            assert b"event: requirement.added" in _read_until(stream, b'"event":"requirement.added"')
            assert b": keepalive" in _read_until(stream, b": keepalive")
        # The server stops at once: nobody is left who follows.
        begun = time.monotonic()
        server.stop()
        assert time.monotonic() - begun < DEADLINE / 2


def _read_until(stream: socket.socket, part: bytes) -> bytes:
    read = b""
    while part not in read:
        piece = stream.recv(65536)
        assert piece, read
        read += piece
    return read
