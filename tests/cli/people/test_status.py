"""`unpause status` and `unpause audit`."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.cli.people.shell import Shell
from tests.support.processes import ServerProcess
from unpause.store.engine.revisions import SCHEMA_REVISION


def test_status_says_what_the_server_is_and_who_asks(root: Shell, server: ServerProcess) -> None:
    lines = root.lines("status")
    assert lines[0] == f"{server.address} is ready"
    found = root.json("status")
    assert (found["url"], found["health"]["status"], found["ready"]["status"]) == (server.address, "ok", "ready")
    [worker] = found["overview"]["workers"]
    assert (worker["alive"], worker["running"], worker["heartbeat_age_seconds"]) == (True, 0, 0.0)
    [line] = [line for line in lines if line.startswith("  worker")]
    assert line.split(None, 1)[1].startswith(f"{worker['name']} {worker['version']}, alive, 0 running, heartbeat ")
    assert line.endswith(f"agents {' '.join(worker['agents'])}")
    assert root.lines("status", "-q") == [server.address]


def test_status_shows_a_schema_that_a_newer_version_has_upgraded(root: Shell, server: ServerProcess) -> None:
    with closing(sqlite3.connect(server.database, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        try:
            lines = root.lines("status")
        finally:
            connection.execute("UPDATE alembic_version SET version_num = ?", [SCHEMA_REVISION])
    assert lines[0] == f"{server.address} is ready"
    [line] = [line for line in lines if line.startswith("  schema")]
    assert line.endswith(f"is at 9999: this version knows up to {SCHEMA_REVISION} and works with it")


def test_administrators_read_the_audit_trail(root: Shell, dev: Shell) -> None:
    [line] = root.lines("audit", "--limit", "1")
    root.environment["NO_COLOR"] = "1"
    heading, row = root.on_terminal("audit", "--limit", "1", columns=160)
    assert heading.split() == ["ID", "AT", "(UTC)", "ACTION", "ACTOR", "RUN", "ABOUT"]
    # Runs of other tests add entries meanwhile.
    actions = {entry["id"]: entry["action"] for entry in root.json("audit")}
    assert line.split("\t")[2] == actions[line.split("\t")[0]]
    assert actions[row.split()[0]] in row
    refused = dev.run("audit")
    assert (refused.returncode, refused.stdout) == (5, "")
    assert refused.stderr == "unpause: Insufficient permissions. Required scope(s): agent_os:admin\n"
