"""`unpause inbox` and `unpause show`: what waits, as a table, as plain lines, as JSON, as ids."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.cli.people.shell import Shell
from unpause.cli.people.tables import cell_width

RESTART = [{"tool": "restart", "args": {"service": "nginx"}}]


@pytest.fixture
def request_of(dev: Shell, root: Shell) -> Callable[..., str]:
    """Start a run that waits for one request; return the request's id."""

    def start(calls: object, agent: str = "ops") -> str:
        run_id = dev.wait_for(calls, agent)
        [found] = [item for item in root.json("inbox", "--all") if item["run_id"] == run_id]
        return str(found["requirement_id"])

    return start


def test_what_waits_is_listed_for_people_programs_and_scripts(root: Shell, request_of: Callable[..., str]) -> None:
    name = request_of(RESTART)
    [item] = [item for item in root.json("inbox") if item["requirement_id"] == name]
    assert (item["tool_name"], item["arguments"], item["started_by"]) == ("restart", {"service": "nginx"}, "dev")
    assert name in root.lines("inbox", "-q")
    [line] = [line for line in root.lines("inbox") if line.startswith(name)]
    assert line.split("\t")[2:] == ["ops", 'restart(service="nginx")', "dev", "-"]


def test_a_table_fits_a_terminal_of_80_columns(root: Shell, request_of: Callable[..., str]) -> None:
    name = request_of([{"tool": "restart", "args": {"service": "x" * 200}}])
    heading, *lines = root.on_terminal("inbox")
    assert heading.startswith("\x1b[1mID")
    assert all(cell_width(line) <= 80 for line in lines)
    [line] = [line for line in lines if name.startswith(line.split()[0])]
    assert "restart(service=" in line
    assert "…" in line
    root.environment["NO_COLOR"] = "1"
    assert not any("\x1b" in line for line in root.on_terminal("inbox"))


def test_requests_of_one_agent_alone_are_listed(root: Shell, request_of: Callable[..., str]) -> None:
    name = request_of(RESTART, "other")
    assert name in root.lines("inbox", "-q", "--agent", "other")
    assert name not in root.lines("inbox", "-q", "--agent", "ops")


def test_what_others_decide_is_listed_on_request(root: Shell, dev: Shell, request_of: Callable[..., str]) -> None:
    name = request_of([{"tool": "deploy", "args": {"version": "7"}}])
    assert name in root.lines("inbox", "-q")
    assert name not in dev.lines("inbox", "-q")
    assert name in dev.lines("inbox", "-q", "--all")


def test_an_empty_inbox_says_so(dev: Shell) -> None:
    assert dev.on_terminal("inbox", "--agent", "nobody") == ["Nothing waits for you."]
    assert dev.lines("inbox", "--agent", "nobody") == []
    assert dev.json("inbox", "--agent", "nobody") == []


def test_a_request_is_shown_with_its_form_by_the_beginning_of_its_id(
    root: Shell, request_of: Callable[..., str]
) -> None:
    name = request_of([{"tool": "mail", "args": {"subject": "s"}}])
    item = root.json("show", name)
    assert root.json("show", name[:8]) == item
    assert root.lines("show", name[:8], "-q") == [name]
    lines = root.lines("show", item["run_id"][:8])
    assert lines[0] == f"mail  {name}"
    assert '    "subject": "s"' in lines
    assert any(line.startswith("  copies (required): ") for line in lines)


def test_text_of_others_is_indented_and_harmless_in_what_is_shown(root: Shell, request_of: Callable[..., str]) -> None:
    name = request_of([{"tool": "restart", "args": {"service": "\x1b[2J\u202ex\nrestart  fake"}}])
    for done in (root.run("show", name), root.run("show", name, "--json"), root.run("inbox")):
        assert done.returncode == 0
        assert not {"\x1b", "\u202e"} & set(done.stdout)
    assert json.loads(root.run("show", name, "--json").stdout)["arguments"]["service"].startswith("\x1b[2J")


def test_a_beginning_of_no_id_or_of_several_is_refused(root: Shell, request_of: Callable[..., str]) -> None:
    run_id = json.loads(root.run("show", request_of([*RESTART, *RESTART][:1]), "--json").stdout)["run_id"]
    missing = root.run("show", "zzz")
    assert (missing.returncode, missing.stderr) == (3, "unpause: No request has an id that begins with 'zzz'\n")
    assert root.run("show", run_id[:12]).returncode == 0
    gone = root.run("show", "00000000-0000-4000-8000-000000000000")
    assert (gone.returncode, gone.stdout) == (3, "")


def test_a_run_that_waits_for_two_answers_names_both(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for([*RESTART, {"tool": "pay", "args": {"payee": "x", "amount": 1}}])
    both = [item["requirement_id"] for item in root.json("inbox") if item["run_id"] == run_id]
    done = root.run("show", run_id)
    assert done.returncode == 2
    assert all(name in done.stderr for name in both)
