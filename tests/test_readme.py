"""The README says what is true: its transcript runs, its settings table is the code's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.differences import DELIBERATE, NOT_OFFERED
from unpause.cli.documents import openapi_texts, settings_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PORT = "7777"


@pytest.fixture
def demo_address(tmp_path: Path) -> Iterator[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UNPAUSE_")}
    command = [sys.executable, "-m", "unpause", "demo", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        ready = server.stdout.readline()
        try:
            yield ready.split()[-1]
        finally:
            server.send_signal(signal.SIGTERM)
            server.stdout.read()
            server.wait(timeout=30)


def transcript() -> tuple[list[str], str]:
    """Return the commands of all console blocks, and what they print."""
    lines = [line for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    printed = [line for line in lines if not line.startswith("$ ")]
    return commands, "\n".join(printed)


def test_the_transcript_runs_as_it_is_printed(demo_address: str, tmp_path: Path) -> None:
    commands, printed = transcript()
    script = "\n".join(commands).replace(f"http://127.0.0.1:{PORT}", demo_address)
    done = subprocess.run(["/bin/bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == printed
    assert len(commands) > 15


def test_the_first_runnable_line_comes_within_fifteen_lines() -> None:
    assert "python3 .ci/demo.py" in README.splitlines()[:15]


def test_the_settings_table_is_the_one_of_the_code() -> None:
    found = re.search(r"<!-- settings:.*?-->\n(.*?)<!-- /settings -->", README, re.DOTALL)
    assert found is not None
    assert found[1] == settings_table()


def test_the_openapi_documents_are_those_of_the_application() -> None:
    written = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "openapi").glob("*.json")}
    assert written == openapi_texts()


def test_the_map_of_the_code_names_what_is_there() -> None:
    named = set(re.findall(r"^  (\w+)/ ", README, re.MULTILINE))
    there = {folder.name for folder in (ROOT / "src/unpause").iterdir() if (folder / "__init__.py").exists()}
    assert named == there


def test_every_capture_that_is_answered_otherwise_is_in_the_table_of_differences() -> None:
    differences = README.partition("## Differences")[2].partition("From Codegen")[0]
    listed = re.findall(r"\b\d{3}\b", " ".join(re.findall(r"^\|.*\|(.*)\|$", differences, re.MULTILINE)))
    numbers = {name[:3] for name in (*DELIBERATE, *NOT_OFFERED) if "/" not in name}
    assert sorted(listed) == sorted(numbers)
