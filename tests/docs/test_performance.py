"""The page about performance: its commands are commands, and what measures can be relied on."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.duel import parse
from tests.benchmarks.load import Tally, load
from tests.benchmarks.picture import draw
from tests.benchmarks.results import Results, Row, report
from tests.benchmarks.subjects import Server, find_subject, serving_process
from tests.support.client_environments import ROOT
from tests.support.databases import sqlite_url

PAGE = (ROOT / "docs/explanation/performance.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line) for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
DUELS = [command[3:] for command in COMMANDS if command[:3] == ["python", "-m", "tests.benchmarks.duel"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("limit") / "server"
    with serving_process(find_subject("limit-0"), folder, sqlite_url(folder / "data.db")) as server:
        yield server


def test_the_page_names_a_quick_run_and_others() -> None:
    assert ["--quick"] in DUELS
    assert len(DUELS) > 2


@pytest.mark.parametrize("arguments", DUELS, ids=" ".join)
def test_a_command_of_the_page_has_options_that_exist(arguments: list[str]) -> None:
    assert parse(arguments).subjects


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_is_a_module_that_exists(command: list[str]) -> None:
    assert command[:2] == ["python", "-m"]
    assert Path(ROOT, *command[2].split(".")).with_suffix(".py").is_file()


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_quick_run_prints_its_tables_and_writes_its_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.duel", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 4 | unpause-0 |" in done.stdout
    assert json.loads((tmp_path / "duel.json").read_text())["slices"]
    assert (tmp_path / "duel.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("stream", [False, True], ids=["json", "sse"])
async def test_the_load_counts_the_cycles_that_a_server_answered(server: Server, *, stream: bool) -> None:
    tally = await load(server.port, "instant", clients=2, seconds=1.0, stream=stream)
    assert tally.wrong == 0, tally.complaint
    assert tally.ever >= tally.requests > 0
    assert all(first > 0 for first in tally.first_events)


async def test_an_answer_that_is_not_the_expected_one_is_counted(server: Server) -> None:
    tally = await load(server.port, "nobody", clients=1, seconds=0.1)
    assert tally.wrong > 0
    assert "404" in tally.complaint


def test_results_become_rows_ratios_and_a_picture(server: Server) -> None:
    results = Results()
    results.add_process("sqlite", server, [server.resident_megabytes()] * 2)
    for subject, requests in (("limit-0", 8), ("unpause-0", 4)):
        tally = Tally(0.0, 1.0, requests, ever=requests, continues=[2.0, 2.0], first_events=[1.0])
        results.add(Row("sqlite", "sse", 16, subject), tally, server_seconds=0.04, database_seconds=0.0)
    results.processes.append(replace(results.processes[0], subject="unpause-0"))
    assert "| 16 | unpause-0 | 2.0 (2.0 to 2.0) | 0.50 | 20.0 |  | 2.0 | 2.0 | 1.0 | 0 |" in report(
        results, ["limit-0"]
    )
    assert draw(results).startswith(b"\x89PNG")


@pytest.mark.full
def test_a_server_is_measured_with_its_children(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with serving_process(find_subject("limit-1"), folder, sqlite_url(folder / "data.db")) as server:
        own, children = server.resident_megabytes()
    assert own > 10
    assert children > 10
