"""The explanations name files and what is in them: each name exists."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

EXPLANATIONS = Path(__file__).parents[2] / "docs" / "explanation"
NAMED = re.compile(r"`([a-z_/]+)\.py: ([A-Za-z_.]+)`")
FILE = re.compile(r"`((?!tests/)[a-z_]+/[a-z_/]+\.py)`")

PLACES = sorted(
    {(file.name, *found) for file in EXPLANATIONS.glob("*.md") for found in NAMED.findall(file.read_text())}
)


def test_each_file_that_an_explanation_names_is_there() -> None:
    source = EXPLANATIONS.parents[1] / "src" / "unpause"
    named = {name for file in EXPLANATIONS.rglob("*.md") for name in FILE.findall(file.read_text())}
    assert len(named) >= 5
    assert not [name for name in sorted(named) if not (source / name).exists()]


def test_the_walk_names_its_stops() -> None:
    assert len(PLACES) >= 20


@pytest.mark.parametrize(("document", "module", "name"), PLACES)
def test_what_an_explanation_names_is_there(document: str, module: str, name: str) -> None:
    found = reduce(getattr, name.split("."), import_module(f"unpause.{module.replace('/', '.')}"))

    assert found is not None, document
