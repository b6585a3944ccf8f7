"""Limits of requests are written as operators know them from other servers."""

from __future__ import annotations

import pytest

from unpause.rates import Rate, parse_rate

WRITTEN = [
    ("10/minute", 10, 60),
    ("60/30 seconds", 60, 30),
    (" 5 per hour ", 5, 3600),
    ("1 PER 2 Days", 1, 172_800),
    ("7/ 1month", 7, 2_592_000),
    ("1000000000/year", 1_000_000_000, 31_104_000),
]
REFUSED = {
    "often": "not a limit such as",
    "10/fortnight": "not a limit such as",
    "10 a minute": "not a limit such as",
    "-1/minute": "not a limit such as",
    "1/second; 5/minute": "several limits",
    "0/minute": "allows 0 requests",
    "1000000001/minute": "allows 1000000001 requests",
    "1/13 months": "more than a year",
}


@pytest.mark.parametrize(("text", "amount", "seconds"), WRITTEN)
def test_a_limit_is_an_amount_and_a_window(text: str, amount: int, seconds: int) -> None:
    rate = parse_rate(text)
    assert rate is not None
    assert (rate.amount, rate.seconds) == (amount, seconds)


@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_text_lifts_the_limit(text: str) -> None:
    assert parse_rate(text) is None


@pytest.mark.parametrize(("text", "reason"), REFUSED.items())
def test_another_text_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_rate(text)


def test_a_count_is_stored_under_the_name_that_other_nodes_use() -> None:
    # As older versions wrote it: in a rolling upgrade old and new nodes count together.
    assert Rate(60, 30, "second").key("read", "abc") == "LIMITER/read/abc/60/30/second"
