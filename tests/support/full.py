"""Which tests run: what is slow and seldom breaks, only with UNPAUSE_FULL_TESTS=1, as every night.

A test with the mark `full` is skipped otherwise. One that has a short and a long form asks `IS_FULL` for its numbers.
"""

from __future__ import annotations

import os
from typing import Final

import pytest

if "UNPAUSE_FULL_TESTS" in os.environ:
    # A server refuses a variable like those of settings that is none. Worker processes find it by the other name.
    os.environ["TEST_IS_FULL"] = os.environ.pop("UNPAUSE_FULL_TESTS")

IS_FULL: Final = os.environ.get("TEST_IS_FULL") == "1"

_SKIP: Final = pytest.mark.skip(reason="runs with UNPAUSE_FULL_TESTS=1, as every night")


def skip_long_tests(items: list[pytest.Item]) -> None:
    """Skip what is marked `full`, and what only repeats a test in another place.

    On PostgreSQL these are the tests of rules, which SQLite shows as well; with agents in a process of their own, the
    tests that also run with agents in the server, unless they prove that a weakness is absent. Where SQL or locking is
    what is tested, in the store's tests and those with the mark `sql`, both databases run every time.
    """
    for item in items:
        is_about_sql = "store" in item.path.parts or item.get_closest_marker("sql")
        is_repeated = bool(item.get_closest_marker("on_postgresql")) and not is_about_sql
        is_repeated |= bool(item.get_closest_marker("agent_process") and not item.get_closest_marker("weakness"))
        if not IS_FULL and (is_repeated or item.get_closest_marker("full")):
            item.add_marker(_SKIP)
