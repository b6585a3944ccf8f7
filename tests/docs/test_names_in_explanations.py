"""The explanations name files and what is in them: each name exists."""

from __future__ import annotations

import re
from functools import reduce
from importlib import import_module
from pathlib import Path

import pytest

EXPLANATIONS = Path(__file__).parents[2] / "docs" / "explanation"
NAMED = re.compile(r"`([a-z_/]+)\.py: ([A-Za-z_.]+)`")

PLACES = sorted(
    {(file.name, *found) for file in EXPLANATIONS.glob("*.md") for found in NAMED.findall(file.read_text())}
)


def test_the_walk_names_its_stops() -> None:
    assert len(PLACES) >= 20


@pytest.mark.parametrize(("document", "module", "name"), PLACES)
def test_what_an_explanation_names_is_there(document: str, module: str, name: str) -> None:
    found = reduce(getattr, name.split("."), import_module(f"unpause.{module.replace('/', '.')}"))

    assert found is not None, document
