"""Who is written down: nobody reads as somebody else."""

from __future__ import annotations

from itertools import combinations

from unpause.domain.principal import Principal


def test_a_user_named_like_a_token_does_not_read_as_that_token() -> None:
    names = ["a", "token:abc", "user:token:abc", "user:user:token:abc", "user:a", "token:"]
    written = {name: Principal(1, token_id="abc").acting_for(name).name for name in names}
    assert written["a"] == "a"
    written[""] = Principal(1, token_id="abc").name
    assert written[""] == "token:abc"
    for one, other in combinations(written, 2):
        assert written[one] != written[other], (one, other)
    assert Principal(1, subject="token:abc", user_id="token:abc").name == "user:token:abc"


def test_such_a_name_is_no_longer_than_the_database_takes() -> None:
    assert len(Principal(1, "token:" + "a" * 249).name or "") == 255
