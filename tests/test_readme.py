"""The README is short, begins with a command, and its map of the code is true; `tests/docs` executes it."""

from __future__ import annotations

import re

from tests.contract.differences import DELIBERATE, NOT_OFFERED
from tests.support.client_environments import ROOT
from unpause.cli.documents import openapi_texts

README = (ROOT / "README.md").read_text(encoding="utf-8")
DIFFERENCES = (ROOT / "docs/explanation/differences.md").read_text(encoding="utf-8")


def test_it_is_short_and_the_first_runnable_line_comes_within_fifteen_lines() -> None:
    assert len(README.splitlines()) <= 130
    assert "python3 .ci/demo.py" in README.splitlines()[:15]


def test_the_openapi_documents_are_those_of_the_application() -> None:
    written = {file.stem: file.read_text(encoding="utf-8") for file in (ROOT / "openapi").glob("*.json")}
    assert written == openapi_texts()


def test_the_map_of_the_code_names_what_is_there() -> None:
    named = set(re.findall(r"^  (\w+)/ ", README, re.MULTILINE))
    there = {folder.name for folder in (ROOT / "src/unpause").iterdir() if folder.is_dir() and folder.name[0] != "_"}
    assert named == there


def test_every_capture_that_is_answered_otherwise_is_in_the_table_of_differences() -> None:
    differences = DIFFERENCES.partition("## From Codegen")[0]
    listed = re.findall(r"\b\d{3}\b", " ".join(re.findall(r"^\|.*\|(.*)\|$", differences, re.MULTILINE)))
    numbers = {name[:3] for name in (*DELIBERATE, *NOT_OFFERED) if "/" not in name}
    assert sorted(listed) == sorted(numbers)
