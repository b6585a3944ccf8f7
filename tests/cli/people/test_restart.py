"""A follow and a watch go on by themselves when the server was away."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.cli.here import Here
from tests.cli.people.shell import Shell, people_server
from tests.support.preloaded import Command
from tests.support.processes import ServerProcess
from tests.support.tokens import first_token

RESTART = [{"tool": "restart", "args": {"service": "nginx"}}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Return a server that is on the same port after each start."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with people_server(tmp_path_factory.mktemp("restart"), "--port", str(port)) as server:
        yield server


@pytest.fixture
def root(server: ServerProcess, here: Here, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(here, monkeypatch, server.address, first_token(server))


def restart(server: ServerProcess, command: Command) -> None:
    """Kill the server, wait until the command has noticed, and start it again."""
    server.kill()
    assert command.stderr.readline() == "Connection lost; reconnecting.\n"
    server.start()
    assert command.stderr.readline() == "Connected again.\n"


def read_json(command: Command) -> dict[str, object]:
    found: dict[str, object] = json.loads(command.stdout.readline())
    return found


def test_a_follow_goes_on_after_its_last_event_when_the_server_is_back(root: Shell, server: ServerProcess) -> None:
    run_id = root.wait_for(RESTART)
    follow = root.start("runs", "follow", run_id, "--json")
    events = [read_json(follow)]
    while events[-1]["event"] != "RunPaused":
        events.append(read_json(follow))
    restart(server, follow)
    [name] = root.lines("inbox", "-q")
    assert root.run("approve", name).returncode == 0
    events += map(json.loads, follow.stdout.read().splitlines())
    assert follow.wait(60) == 0
    assert [event["event_index"] for event in events] == list(range(len(events)))
    assert [event["event"] for event in events].count("RunCompleted") == 1
    follow.stdout.close()
    follow.stderr.close()


def test_a_watch_shows_what_came_and_went_while_the_server_was_away(root: Shell, server: ServerProcess) -> None:
    first, second = (root.wait_for(RESTART) for _ in range(2))
    watch = root.start("inbox", "--watch", "--json")
    shown = [read_json(watch) for _ in range(2)]
    assert [each["event"] for each in shown] == ["requirement.added"] * 2
    restart(server, watch)
    assert root.run("reject", first, "--note", "no").returncode == 0
    gone = read_json(watch)
    assert gone["event"] == "requirement.decided"
    assert gone["requirement"] == {**gone["requirement"], "run_id": first}  # type: ignore[dict-item]
    third = root.wait_for(RESTART)
    come = read_json(watch)
    assert come["event"] == "requirement.added"
    assert come["requirement"] == {**come["requirement"], "run_id": third}  # type: ignore[dict-item]
    assert second != third
    watch.send_signal(signal.SIGINT)
    assert watch.wait(60) == 130
    assert watch.stderr.read() == ""
    watch.stdout.close()
    watch.stderr.close()
