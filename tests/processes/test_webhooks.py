"""Webhooks of a real server: a kill between the commit of a change and its delivery loses nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.processes.conversation import CODEGEN, create_codegen_run, read_codegen_run, resume_run
from tests.support.processes import ServerProcess
from tests.support.receiver import Heard, Receiver
from unpause.vault import new_key

WEBHOOK = "/v1/organizations/1/webhooks/agent-run"
SECRET = "canary-of-the-processes"
SCRIPT = "delete a"


def serve(folder: Path, *options: str) -> ServerProcess:
    """Return a server with a key, whose attempts take little time."""
    usual = ("--webhook-private-targets", "--webhook-timeout-seconds", "0.3")
    return ServerProcess(folder, *usual, *options, environment={"UNPAUSE_ENCRYPTION_KEY": new_key()})


def configure(server: ServerProcess, url: str) -> None:
    with server.client() as client:
        assert client.post(WEBHOOK, json={"url": url, "secret": SECRET}).json()["has_secret"] is True


def types(heard: Sequence[Heard]) -> list[str]:
    return [str(each.verified(SECRET)["type"]) for each in heard]


def test_a_kill_while_a_message_is_on_its_way_sends_it_again_with_the_same_id(tmp_path: Path) -> None:
    with Receiver(None) as receiver, serve(tmp_path, "--webhook-timeout-seconds", "1") as server:
        configure(server, receiver.url)
        with server.client() as client:
            run = create_codegen_run(client, SCRIPT)
        [lost] = receiver.wait_for(1)
        server.kill()
        assert server.rows("SELECT attempts, delivered_at FROM webhook_deliveries") == [(1, None)]
        server.start()
        heard = receiver.wait_for(2)
        assert [each.id for each in heard] == [lost.id, lost.id]
        assert types(heard) == ["agent_run.paused", "agent_run.paused"]
        with server.client() as client:
            assert read_codegen_run(client, run["id"])["status"] == "PAUSED"
            resume_run(client, run["id"], "no")
        assert set(types(receiver.wait_for(4))[2:]) == {"agent_run.decided", "agent_run.completed"}
        assert SECRET not in server.output


@pytest.mark.parametrize("delay", [0.0, *(pytest.param(delay, marks=pytest.mark.full) for delay in (0.1, 0.3))])
def test_a_kill_right_after_the_answer_loses_no_message(tmp_path: Path, delay: float) -> None:
    """Nobody has looked for the message yet, or somebody has: the next process knows."""
    with Receiver() as receiver, serve(tmp_path) as server:
        configure(server, receiver.url)
        with server.client() as client:
            run = create_codegen_run(client, SCRIPT)
            while client.get(f"{CODEGEN}/{run['id']}").json()["status"] == "ACTIVE":
                pass
        time.sleep(delay)
        server.kill()
        [(message_id,)] = server.rows("SELECT id FROM webhook_deliveries")
        server.start()
        heard = receiver.wait_for(1)
    assert {each.id for each in heard} == {message_id}
    assert set(types(heard)) == {"agent_run.paused"}


def test_a_stop_is_quick_while_a_message_hangs(tmp_path: Path) -> None:
    with Receiver(None) as receiver, serve(tmp_path, "--webhook-timeout-seconds", "60") as server:
        configure(server, receiver.url)
        with server.client() as client:
            create_codegen_run(client, SCRIPT)
        receiver.wait_for(1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 30
        assert server.rows("SELECT attempts, delivered_at FROM webhook_deliveries") == [(1, None)]
        assert "Traceback" not in server.output


def test_a_private_address_is_refused_by_default(tmp_path: Path) -> None:
    with Receiver() as receiver, ServerProcess(tmp_path) as server, server.client() as client:
        # Not seen to be private until it is resolved, where the machine's own resolver knows such names.
        refused = client.post(WEBHOOK, json={"url": receiver.url})
        assert (refused.status_code, refused.json()["status_code"]) == (400, 400)
        assert receiver.received == []
