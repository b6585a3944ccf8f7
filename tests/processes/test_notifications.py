"""Notifications of a real server: a kill between a fact and its delivery loses nothing."""

from __future__ import annotations

import time
from pathlib import Path

from tests.processes.conversation import create_run
from tests.support.channels import CHANNELS, SECRET, channel_url, told
from tests.support.processes import DEADLINE, ServerProcess
from tests.support.receiver import Receiver
from unpause.vault import new_key

SCRIPT = "delete a"
_ROWS = "SELECT attempts, delivered_at FROM notifications"


def serve(folder: Path) -> ServerProcess:
    """Return a server with a key, whose attempts take little time."""
    options = ("--notify-private-targets", "--notify-timeout-seconds", "1")
    return ServerProcess(folder, *options, environment={"UNPAUSE_ENCRYPTION_KEY": new_key()})


def pause(server: ServerProcess, url: str) -> None:
    """Add a channel, and have a run wait."""
    with server.client() as client:
        assert client.post(CHANNELS, json={"url": url, "owner": "organization"}).status_code == 201
        assert create_run(client, SCRIPT)["status"] == "PAUSED"


def test_a_kill_between_the_pause_and_its_message_leads_to_one_message(tmp_path: Path) -> None:
    with Receiver() as receiver, serve(tmp_path) as server:
        pause(server, channel_url(receiver))
        server.kill()
        [(attempts, _)] = server.rows(_ROWS)
        server.start()
        receiver.wait_for(1)
        until = time.monotonic() + DEADLINE
        while server.rows(_ROWS)[0][1] is None and time.monotonic() < until:
            time.sleep(0.02)
        # One that was on its way at the kill may have arrived: it is attempted again.
        assert len(receiver.received) <= 1 + attempts
        assert {title for title, _ in told(receiver.received)} == {"scripted waits for you: delete"}
        assert SECRET not in server.output


def test_a_kill_while_a_message_is_on_its_way_leads_to_one_more_attempt(tmp_path: Path) -> None:
    with Receiver(None) as receiver, serve(tmp_path) as server:
        pause(server, channel_url(receiver))
        receiver.wait_for(1)
        server.kill()
        assert server.rows(_ROWS) == [(1, None)]
        server.start()
        first, second = told(receiver.wait_for(2))
        assert first == second
        assert SECRET not in server.output
