"""`unpause status` and `unpause audit`."""

from __future__ import annotations

from tests.cli.people.shell import Shell
from tests.support.processes import ServerProcess


def test_status_says_what_the_server_is_and_who_asks(root: Shell, server: ServerProcess) -> None:
    lines = root.lines("status")
    assert lines[0] == f"{server.address} is ready"
    found = root.json("status")
    assert (found["url"], found["health"]["status"], found["ready"]["status"]) == (server.address, "ok", "ready")
    assert root.lines("status", "-q") == [server.address]


def test_administrators_read_the_audit_trail(root: Shell, dev: Shell) -> None:
    [first, *_] = root.json("audit", "--limit", "1")
    [line] = root.lines("audit", "--limit", "1")
    assert line.split("\t")[0] == first["id"]
    assert line.split("\t")[2] == first["action"]
    root.environment["NO_COLOR"] = "1"
    heading, row = root.on_terminal("audit", "--limit", "1")
    assert heading.split() == ["ID", "AT", "(UTC)", "ACTION", "ACTOR", "RUN", "ABOUT"]
    assert first["action"] in row
    refused = dev.run("audit")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr == "unpause: Insufficient permissions. Required scope(s): agent_os:admin\n"
