"""`unpause inbox --watch`: a table that stays up to date on a terminal, and a line for each change elsewhere."""

from __future__ import annotations

import json

from tests.cli.people.screen import HOME, Screen
from tests.cli.people.shell import Shell
from unpause.cli.people.tables import cell_width

RESTART = [{"tool": "restart", "args": {"service": "nginx"}}]


def test_a_terminal_shows_what_comes_and_goes(root: Shell, dev: Shell) -> None:
    with Screen("inbox", "--watch", "--agent", "watched", environment=root.environment) as screen:
        screen.read_until(lambda lines: "Nothing waits for you." in lines)
        run_id = dev.wait_for(RESTART, "watched")
        lines = screen.read_until(lambda lines: any("restart(" in line for line in lines))
        assert lines[0].endswith("1 open  (Ctrl-C ends)")
        assert all(cell_width(line) <= 80 for line in lines[2:])
        assert root.run("approve", run_id).returncode == 0
        screen.read_until(lambda lines: "Nothing waits for you." in lines)
        assert screen.interrupt() == 130
        assert not any("Traceback" in line for line in screen.shown)


def test_a_terminal_without_cursor_gets_lines(root: Shell, dev: Shell) -> None:
    with Screen("inbox", "--watch", "--agent", "watched", environment={**root.environment, "TERM": "dumb"}) as screen:
        dev.wait_for(RESTART, "watched")
        lines = screen.read_until(lambda lines: any("restart(" in line for line in lines))
        assert lines[0].startswith("added\t")
        assert HOME not in "\n".join(lines)


def test_a_pipe_gets_a_line_for_each_change(root: Shell, dev: Shell) -> None:
    watch = root.start("inbox", "--watch", "--agent", "watched", "--json")
    run_ids = [dev.wait_for(RESTART, "watched") for _ in range(2)]
    [known] = [item for item in root.json("inbox", "--agent", "watched") if item["run_id"] == run_ids[1]]
    assert root.run("reject", run_ids[0], "--note", "no").returncode == 0
    assert root.run("runs", "cancel", run_ids[1]).returncode == 0
    events: list[tuple[str, str]] = []
    while ("requirement.cancelled", run_ids[1]) not in events:
        read = json.loads(watch.stdout.readline())
        events.append((read["event"], read["requirement"]["run_id"]))
    assert [name for name, run_id in events if run_id == run_ids[0]] == ["requirement.added", "requirement.decided"]
    assert known["run_id"] == run_ids[1]
    watch.stdout.close()
    dev.wait_for(RESTART, "watched")
    assert watch.wait(60) == 141
    assert watch.stderr.read() == ""
    watch.stderr.close()
