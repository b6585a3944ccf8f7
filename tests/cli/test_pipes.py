"""Whoever reads a command's output may stop early: the command ends quietly, with a code that says so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from unpause.cli.exits import Exit
from unpause.cli.main import app, main

COMMANDS = [name for name in app if not name.startswith("-")]


@pytest.mark.parametrize(
    "command",
    [*([name, "--help"] for name in COMMANDS), ["--help"], ["settings"], ["completion", "bash"]],
    ids=" ".join,
)
def test_a_closed_pipe_ends_every_help_and_text_quietly(
    command: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as output:
        # Not in a fixture: pytest puts its own in place again before the test.
        monkeypatch.setattr(sys, "stdout", output)
        # One whose output was not read is quiet ever after.
        monkeypatch.setattr(app, "console", Console())
        with pytest.raises(SystemExit) as ended:
            main(command)
    assert ended.value.code == Exit.PIPE_CLOSED
    assert capfd.readouterr().err == ""


def test_an_output_that_lacks_a_character_is_refused_by_its_name_and_not_as_a_wrong_input(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path(os.devnull).open("w", encoding="ascii") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as ended:
            main(["settings"])
    assert ended.value.code == Exit.FAILED
    assert capfd.readouterr().err == (
        "unpause: the output is in ascii, which does not have all characters; set PYTHONUTF8=1\n"
    )
