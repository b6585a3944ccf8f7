"""`unpause approve`, `reject`, `answer` and `result`: what they decide, and that the run goes on."""

from __future__ import annotations

import io
import json
import sys

import pytest

from tests.cli.people.shell import Shell
from unpause.cli.exits import CommandFailed
from unpause.cli.people.decide import check_doubt

RESTART = [{"tool": "restart", "args": {"service": "nginx"}}]


def output(shell: Shell, run_id: str) -> str:
    """Return the last line of a run that ends well."""
    return shell.lines("runs", "follow", run_id)[-1]


def test_an_approved_call_runs(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for(RESTART)
    [line] = root.lines("approve", run_id[:8])
    assert line == f'Approved restart(service="nginx"); run {run_id} goes on'
    assert output(dev, run_id) == "Told: restarted nginx"


def test_a_rejected_call_does_not_run_and_the_model_reads_the_note(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for(RESTART)
    done = root.json("reject", run_id, "--note", "not now")
    assert done["run"]["run_id"] == run_id
    assert "not now" in output(dev, run_id)


def test_a_form_takes_values_with_the_types_of_its_schema(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for([{"tool": "mail", "args": {"subject": "s"}}])
    root.lines("approve", run_id, "--set", "to=7", "--set", "copies=7")
    assert output(dev, run_id) == "Told: sent s to 7 with 7 copies"


def test_an_argument_that_may_be_edited_is_changed(root: Shell, dev: Shell) -> None:
    for change in ("amount=7", "amount:=7"):
        run_id = dev.wait_for([{"tool": "pay", "args": {"payee": "x", "amount": 900}}])
        root.lines("approve", run_id, "--set", change)
        assert output(dev, run_id) == "Told: paid 7 to x"


@pytest.mark.parametrize("change", ["amount=much", "payee=me", "amount", "amount:=x", "=7"])
def test_a_value_that_does_not_fit_ends_the_command_with_2_and_decides_nothing(
    root: Shell, dev: Shell, change: str
) -> None:
    run_id = dev.wait_for([{"tool": "pay", "args": {"payee": "x", "amount": 900}}])
    done = root.run("approve", run_id, "--set", change)
    assert (done.returncode, done.stdout) == (2, "")
    assert root.run("show", run_id).returncode == 0


def test_a_question_is_answered_in_words(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for([{"tool": "ask", "args": {"question": "which?"}}])
    root.lines("answer", run_id, "the second")
    assert "the second" in output(dev, run_id)


@pytest.mark.parametrize("source", ["text", "file", "pipe"])
def test_a_call_that_runs_outside_gets_its_result(root: Shell, dev: Shell, source: str) -> None:
    run_id = dev.wait_for([{"tool": "shell", "args": {"command": "ls"}}])
    root.folder.joinpath("result.txt").write_text("a file\n", encoding="utf-8")
    value = {"text": "a file\n", "file": "@result.txt", "pipe": "@-"}[source]
    assert root.typed("a file\n", "result", run_id, value).returncode == 0
    assert "a file" in output(dev, run_id)


def test_whoever_comes_second_reads_who_was_first(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for(RESTART)
    [name] = [item["requirement_id"] for item in root.json("inbox") if item["run_id"] == run_id]
    dev.lines("approve", name, "--note", "go \x1b[2J")
    done = root.run("reject", name)
    assert (done.returncode, done.stdout) == (4, "")
    assert "approve by dev at " in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("command", [["approve"], ["reject"], ["answer", "late"], ["result", "late"]])
def test_a_decided_request_is_a_conflict_by_whatever_it_is_named(root: Shell, dev: Shell, command: list[str]) -> None:
    run_id = dev.wait_for(RESTART)
    [name] = dev.lines("approve", run_id, "-q")
    for given in (name, name[:12], run_id, run_id[:12]):
        done = root.run(command[0], given, *command[1:])
        assert (done.returncode, done.stdout) == (4, ""), given
        assert "approve by dev at " in done.stderr
    assert root.json("show", name[:12])["decision"]["by"] == "dev"


def test_who_may_not_decide_is_refused_with_5(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for([{"tool": "deploy", "args": {"version": "7"}}])
    [name] = [item["requirement_id"] for item in root.json("inbox") if item["run_id"] == run_id]
    done = dev.run("approve", name)
    assert (done.returncode, done.stdout) == (5, "")
    root.lines("approve", name)
    assert output(dev, run_id) == "Told: deployed 7"


def test_a_decision_of_one_prints_its_id_for_scripts(root: Shell, dev: Shell) -> None:
    run_id = dev.wait_for(RESTART)
    [name] = [item["requirement_id"] for item in root.json("inbox") if item["run_id"] == run_id]
    assert root.lines("approve", name, "-q") == [name]


def test_several_requests_are_decided_and_those_that_are_not_are_named(root: Shell, dev: Shell) -> None:
    run_ids = [dev.wait_for(RESTART) for _ in range(2)]
    done = root.run("approve", run_ids[0], "zzzz", run_ids[1])
    assert done.returncode == 3
    assert done.stdout.count("Approved") == 2
    assert done.stderr.splitlines() == [
        "zzzz: No request has an id that begins with 'zzzz'",
        "unpause: 1 of 3 requests were not decided",
    ]
    for run_id in run_ids:
        assert output(dev, run_id) == "Told: restarted nginx"
    assert root.run("approve").returncode == 2


class Typing(io.StringIO):
    """Standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_call_that_may_have_run_is_approved_only_on_purpose(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"in_doubt": True, "tool_name": "pay", "arguments": {"amount": 7}}
    check_doubt(item, yes=True)
    with pytest.raises(CommandFailed, match="Approve it with --yes"):
        check_doubt(item, yes=False)
    monkeypatch.setattr(sys, "stdin", Typing("y\n"))
    check_doubt(item, yes=False)
    monkeypatch.setattr(sys, "stdin", Typing("\n"))
    with pytest.raises(CommandFailed, match="Nothing was decided"):
        check_doubt(item, yes=False)
    check_doubt(json.loads('{"in_doubt": false}'), yes=False)
