"""Values that people chose are checked by the tool once, before the transaction that keeps them."""

from __future__ import annotations

import math

import pytest

from tests.domain.test_match_answers import requirement
from tests.support.mortal_journal import setup_run
from unpause.domain.requirements import ToolAnswer
from unpause.services.value_checks import ValueChecks, ValuesUnchecked


def test_a_value_that_does_not_equal_itself_is_not_checked_without_end() -> None:
    checks, run = ValueChecks(), setup_run("true", 1)
    with pytest.raises(ValuesUnchecked) as found:
        checks.take(run, requirement(), ToolAnswer("call", values={"ratio": math.nan}))
    checks.add(found.value, {"ratio": "NaN"})
    again = ToolAnswer("call", values={"ratio": float("nan")})
    assert checks.take(run, requirement(), again).values == {"ratio": "NaN"}
