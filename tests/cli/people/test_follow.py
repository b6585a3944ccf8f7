"""`unpause run` and `unpause runs follow`: what they print, and how they end."""

from __future__ import annotations

import json
import signal

import pytest

from tests.cli.people.shell import Shell
from tests.support.processes import Barrier, ServerProcess


def test_a_run_is_followed_to_its_end(dev: Shell) -> None:
    calls = [{"tool": "look", "args": {"service": "nginx"}}]
    assert dev.lines("run", "ops", json.dumps(calls), "--follow") == [
        '> look(service="nginx")',
        "< looked at nginx",
        "Told: looked at nginx",
    ]
    events = [json.loads(line) for line in dev.run("run", "ops", '"hello"', "--follow", "--json").stdout.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["RunStarted", "RunCompleted"]


def test_text_of_a_model_does_not_steer_the_terminal(dev: Shell) -> None:
    text = "a\x1b]0;title\x07\u202e\x9b31m\nb"
    assert dev.lines("run", "ops", json.dumps(text), "--follow") == [r"a\x1b]0;title\x07\u202e\x9b31m", "b"]
    call = [{"tool": "look", "args": {"service": "\x1b[2J\u202e"}}]
    done = dev.run("run", "ops", json.dumps(call), "--follow")
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_a_run_that_ends_in_error_ends_the_command_with_7(dev: Shell) -> None:
    done = dev.run("run", "ops", "{}", "--follow")
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert "ended in ERROR" in done.stderr
    assert "\x1b" not in done.stderr


def test_an_agent_that_is_not_there_ends_the_command_with_3(dev: Shell) -> None:
    done = dev.run("run", "nobody", '"hello"')
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "unpause: Agent not found\n"


def test_words_can_come_from_standard_input(dev: Shell) -> None:
    assert dev.typed('"hello"', "run", "ops", "@-", "--follow").stdout == "hello\n"


def test_a_pipe_that_is_closed_early_ends_the_command_without_a_traceback(dev: Shell) -> None:
    command = dev.start("run", "ops", json.dumps("\n".join(["a line"] * 100)), "--follow")
    command.stdout.close()
    assert command.stderr.read() == ""
    assert command.wait(60) == 141
    command.stderr.close()


def test_ctrl_c_ends_a_follow_and_not_the_run(dev: Shell, server: ServerProcess) -> None:
    with Barrier(server.folder, "ctrl-c") as door:
        command = dev.start("run", "ops", json.dumps([{"tool": "wait", "args": {"door": "ctrl-c"}}]), "--follow")
        door.wait_for_arrival()
        assert command.stdout.readline() == '> wait(door="ctrl-c")\n'
        command.send_signal(signal.SIGINT)
        said = command.stderr.read()
        assert command.wait(60) == 130
        door.let_go()
    assert said.startswith("\nThe run goes on: unpause runs follow ")
    assert "Traceback" not in said
    command.stdout.close()
    command.stderr.close()


@pytest.mark.parametrize(
    "arguments", [["inbox"], ["status"], ["run", "ops", "x"], ["login", "http://127.0.0.1:1"]], ids=str
)
def test_a_server_that_is_away_ends_the_command_with_6(dev: Shell, arguments: list[str]) -> None:
    dev.environment["UNPAUSE_URL"] = "http://127.0.0.1:1"
    done = dev.run(*arguments)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr == "unpause: http://127.0.0.1:1 cannot be reached: [Errno 111] Connection refused\n"
