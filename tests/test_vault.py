"""What the vault keeps, and what nobody can read without its key."""

from __future__ import annotations

import pytest

from unpause.errors import InvalidSetting, SecretsNotKept
from unpause.vault import Sealed, Vault, new_key

CANARY = "canary-2f1c"


def test_what_is_sealed_can_be_opened_and_does_not_show() -> None:
    vault = Vault([new_key()])
    sealed = vault.seal(CANARY)
    assert vault.open(sealed) == CANARY
    assert vault.open(Sealed(sealed.token)) == CANARY
    assert CANARY not in f"{sealed!r} {sealed} {sealed.token}"


def test_a_new_key_in_front_of_the_old_one_opens_what_the_old_one_sealed() -> None:
    old, new = new_key(), new_key()
    sealed = Vault([old]).seal(CANARY)
    assert Vault([new, old]).open(sealed) == CANARY
    with pytest.raises(SecretsNotKept):
        Vault([new]).open(sealed)
    with pytest.raises(SecretsNotKept):
        Vault([old]).open(Vault([new, old]).seal(CANARY))


def test_without_a_key_nothing_is_kept() -> None:
    with pytest.raises(SecretsNotKept) as refused:
        Vault().seal(CANARY)
    assert CANARY not in str(refused.value)
    with pytest.raises(SecretsNotKept):
        Vault().open(Sealed("token"))


def test_the_same_secret_looks_the_same_only_under_the_same_key() -> None:
    key = new_key()
    one, same, other = Vault([key]).seal(CANARY), Vault([key]).seal(CANARY), Vault([key]).seal("another")
    assert repr(one) == repr(same)
    assert one.token != same.token
    assert repr(one) != repr(other)
    assert repr(one) != repr(Vault([new_key()]).seal(CANARY))


@pytest.mark.parametrize("key", ["", "short", "not base64 at all !", "a" * 44, "ä" * 32])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Vault([key])
    assert not key or key not in refused.value.message
