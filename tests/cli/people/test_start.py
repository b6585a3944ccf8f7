"""What a command for people loads: the client, and nothing of the server; and what Ctrl-C does meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.here import Here
from tests.support.processes import clean_environment

_HEAVY = {
    *("unpause.api", "unpause.bootstrap", "unpause.services", "unpause.store", "unpause.agents", "unpause.settings"),
    *("sqlalchemy", "fastapi", "starlette", "pydantic", "pydantic_ai", "uvicorn", "structlog", "cryptography", "rich"),
}
_PROGRAM = """
import sys
from unpause.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", ["inbox", "approve abcd", "runs", "run ops hello --follow", "status"])
def test_a_command_for_people_loads_nothing_of_the_server(arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments.split()],
        env=clean_environment(UNPAUSE_URL="http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6, done.stderr
    loaded = set(done.stderr.splitlines()[-1].split())
    assert "httpx" in loaded
    assert not loaded & _HEAVY


@pytest.mark.parametrize(
    ("arguments", "message", "usage"),
    [
        ("inbx", "Unknown command: inbx. Did you mean inbox?", "COMMAND"),
        ("inbox --wach", "Unknown option: --wach. Did you mean --watch?", "inbox [OPTIONS]"),
        ("runs folow", "Unknown command: folow. Did you mean follow?", "runs COMMAND [OPTIONS]"),
        ("inbox ops", "Unexpected argument: ops.", "inbox [OPTIONS]"),
    ],
)
def test_a_slip_is_named_first_and_usage_follows(here: Here, arguments: str, message: str, usage: str) -> None:
    done = here.run(*arguments.split())
    command = f"unpause {usage}".partition(" COMMAND")[0].partition(" [")[0]
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        f"unpause: {message}",
        f"Usage: unpause {usage}",
        f"`{command} --help` explains it.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "7f"], "The beginning of an id has 3 characters or more"),
        (["approve", "7f3a", "--any-arguments"], "Give one of --for-run, --for-session and --until"),
        (["approve", "7f3a", "--for-run", "--for-session"], "Give one of --for-run, --for-session and --until"),
        (["approve", "7f3a", "--until", "soon"], "'soon' is not a time such as 1d, 12h, 30m or 2026-10-01"),
        (["runs", "--since", "yesterday"], "'yesterday' is not a time such as 1d, 12h, 30m or 2026-10-01"),
        (["runs", "--status", "dead"], "'dead' is not a status: pending, running, paused, completed, cancelled, error"),
        (["result", "7f3a", "@nowhere.txt"], "nowhere.txt cannot be read: No such file or directory"),
        (["inbox", "--url", "ftp://x"], "'ftp://x' is not the URL of a server, such as http://127.0.0.1:7777"),
    ],
    ids=" ".join,
)
def test_values_that_cannot_be_meant_are_refused_before_any_request(
    here: Here, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setenv("UNPAUSE_URL", "http://127.0.0.1:1")
    done = here.run(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"unpause: {message}\n")


_INTERRUPTED = """
import sys
from unpause.__main__ import run

class Interrupts:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupts())
run()
"""


@pytest.mark.parametrize("module", ["unpause.cli.main", "cyclopts"])
def test_ctrl_c_while_the_command_is_loaded_is_no_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED, module], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
