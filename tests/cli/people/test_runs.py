"""`unpause runs`: list, show, follow, cancel, pause and resume, by the beginning of an id."""

from __future__ import annotations

import json

from tests.cli.people.shell import Shell
from tests.support.processes import Barrier, ServerProcess

RESTART = [{"tool": "restart", "args": {"service": "nginx"}}]


def start(shell: Shell, prompt: object) -> str:
    """Start a run, and return its id."""
    [run_id] = shell.lines("run", "ops", json.dumps(prompt), "-q")
    return run_id


def test_a_run_is_started_and_its_id_printed(dev: Shell) -> None:
    [line] = dev.lines("run", "ops", '"hello"')
    run_id = line.split()[1]
    assert line == f"Run {run_id} is PENDING: unpause runs follow {run_id}"
    assert dev.lines("runs", "follow", run_id) == ["hello"]
    assert dev.lines("runs", "follow", run_id[:8]) == ["hello"]
    assert dev.lines("runs", "follow", run_id, "-q") == [run_id]


def test_runs_are_listed_by_status_and_time(dev: Shell) -> None:
    paused = dev.wait_for(RESTART)
    failed = start(dev, {})
    assert dev.run("runs", "follow", failed).returncode == 7
    assert paused in dev.lines("runs", "-q", "--status", "paused")
    assert failed in dev.lines("runs", "-q", "--status", "error", "--since", "1h")
    assert not {paused, failed} & set(dev.lines("runs", "-q", "--status", "COMPLETED"))
    assert {paused, failed} <= set(dev.lines("runs", "-q", "--status", "paused", "--status", "error"))
    assert dev.lines("runs", "-q", "--since", "2999-01-01") == []
    [line] = [line for line in dev.lines("runs") if line.startswith(paused)]
    assert line.split("\t")[2].startswith("PAUSED")


def test_a_table_of_runs_fits_a_terminal(dev: Shell) -> None:
    start(dev, "x" * 300)
    heading, *lines = dev.on_terminal("runs", columns=60)
    assert "PROMPT" in heading
    assert all(len(line) <= 60 for line in lines)


def test_a_run_is_shown_with_what_it_waits_for_and_how_it_ended(root: Shell, dev: Shell) -> None:
    paused = dev.wait_for(RESTART)
    [waits] = [line for line in dev.lines("runs", "show", paused[:8]) if line.startswith("Waits for")]
    assert waits.startswith('Waits for restart(service="nginx"): unpause show ')
    failed = start(dev, {})
    dev.run("runs", "follow", failed)
    assert "  the model \\x1b]0;broke\\x07" in [
        line[: len("  the model \\x1b]0;broke\\x07")] for line in dev.lines("runs", "show", failed)
    ]
    assert "Traceback:" in root.lines("runs", "show", failed)
    assert "Traceback:" not in dev.lines("runs", "show", failed)


def test_a_run_is_cancelled_and_a_follow_of_it_ends_with_1(dev: Shell) -> None:
    run_id = dev.wait_for(RESTART)
    assert dev.lines("runs", "cancel", run_id[:8]) == [f"Run {run_id} is CANCELLED"]
    done = dev.run("runs", "follow", run_id)
    assert (done.returncode, done.stderr) == (1, f"unpause: Run {run_id} was cancelled\n")


def test_a_run_is_paused_and_resumed(dev: Shell, server: ServerProcess) -> None:
    with Barrier(server.folder, "pause") as door:
        run_id = start(dev, [{"tool": "wait", "args": {"door": "pause"}}])
        door.wait_for_arrival()
        assert dev.lines("runs", "pause", run_id) == [f"Run {run_id} is RUNNING"]
        door.let_go()
    follow = dev.start("runs", "follow", run_id)
    while follow.stdout.readline() != "Paused.\n":
        pass
    assert dev.run("runs", "resume", run_id).returncode == 0
    assert follow.stdout.read().splitlines()[-1] == "Told: waited"
    assert follow.wait(60) == 0
    follow.stdout.close()
    follow.stderr.close()


def test_a_run_that_is_not_there_ends_the_command_with_3(dev: Shell) -> None:
    for name in ("zzz", "00000000-0000-4000-8000-000000000000"):
        for action in ("show", "follow", "cancel", "pause", "resume"):
            done = dev.run("runs", action, name)
            assert (done.returncode, done.stdout) == (3, ""), action


def test_pausing_a_run_that_has_ended_ends_the_command_with_4(dev: Shell) -> None:
    run_id = start(dev, "hello")
    dev.run("runs", "follow", run_id)
    assert dev.run("runs", "pause", run_id).returncode == 4


def test_a_follow_says_what_the_run_waits_for(dev: Shell) -> None:
    run_id = dev.wait_for(RESTART)
    follow = dev.start("runs", "follow", run_id)
    line = follow.stdout.readline()
    assert line.startswith('Waits for restart(service="nginx"): unpause show ')
    name = line.split()[-1]
    assert dev.run("runs", "cancel", run_id).returncode == 0
    assert follow.wait(60) == 1
    assert len(name) == 36
    follow.stdout.close()
    follow.stderr.close()
