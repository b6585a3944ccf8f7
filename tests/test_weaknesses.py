"""Agno's AgentOS 2.5.6 had 27 weaknesses when Unpause began; each has a test that fails where Unpause has it too."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_all_27_weaknesses_are_marked_by_a_test_that_proves_them_absent(request: pytest.FixtureRequest) -> None:
    collected = request.session.items
    if not {item.path for item in collected}.issuperset(Path(__file__).parent.rglob("test_*.py")):
        pytest.skip("only some of the tests were collected")
    numbers = {mark.args[0] for item in collected for mark in item.iter_markers("weakness")}
    assert numbers == set(range(1, 28))
