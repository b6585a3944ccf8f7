"""`unpause approve --for-…`: a decision that counts for later calls, listed and revoked."""

from __future__ import annotations

import pytest

from tests.cli.people.shell import Shell


def drain(service: str) -> list[dict[str, object]]:
    """Return a call whose approval may count for later ones."""
    return [{"tool": "drain", "args": {"service": service}}]


@pytest.mark.parametrize("option", [["--for-session"], ["--until", "8h"]], ids=str)
def test_an_approval_can_count_for_later_calls_until_it_is_revoked(dev: Shell, option: list[str]) -> None:
    run = dev.settle(drain("nginx"))
    run_id, session = run["run_id"], run["session_id"]
    [later] = [line for line in dev.lines("show", run_id) if line.startswith("  later calls")]
    assert later.endswith("--for-run, --for-session, --until, --any-arguments")
    dev.lines("approve", run_id, *option)
    [grant] = dev.json("grants")
    assert (grant["tool_name"], grant["match"], grant["uses"]) == ("drain", "arguments", 0)
    assert dev.settle(drain("nginx"), session_id=session)["content"] == "Told: drained nginx"
    assert dev.settle(drain("another"), session_id=session)["status"] == "PAUSED"
    [line] = dev.lines("grants")
    assert line.split("\t")[3] == 'drain(service="nginx")'
    assert line.split("\t")[6] == "1"

    assert dev.lines("grants", "revoke", grant["grant_id"][:8]) == [
        'Revoked: drain(service="nginx") waits for a decision again'
    ]
    assert dev.json("grants") == []
    assert grant["grant_id"] in dev.lines("grants", "--all", "-q")
    assert dev.settle(drain("nginx"), session_id=session)["status"] == "PAUSED"


def test_an_approval_can_count_for_all_arguments(dev: Shell) -> None:
    run = dev.settle(drain("nginx"))
    run_id, session = run["run_id"], run["session_id"]
    dev.lines("approve", run_id, "--for-session", "--any-arguments")
    assert dev.settle(drain("another"), session_id=session)["content"] == "Told: drained another"
    [name] = dev.lines("grants", "-q")
    dev.lines("grants", "revoke", name)


def test_what_the_author_does_not_allow_is_refused_and_decides_nothing(dev: Shell) -> None:
    run_id = dev.wait_for([{"tool": "restart", "args": {"service": "nginx"}}])
    done = dev.run("approve", run_id, "--for-session")
    assert (done.returncode, done.stdout) == (2, "")
    assert dev.run("show", run_id).returncode == 0
