"""What the vault keeps, and what nobody can read without its key."""

from __future__ import annotations

import pytest

from unpause.errors import InvalidSetting, SecretsNotKept
from unpause.vault import Encrypted, Vault, new_key

CANARY = "canary-2f1c"


def test_what_is_sealed_can_be_opened_and_does_not_show() -> None:
    vault = Vault([new_key()])
    encrypted = vault.encrypt(CANARY)
    assert vault.decrypt(encrypted) == CANARY
    assert vault.decrypt(Encrypted(encrypted.token)) == CANARY
    assert CANARY not in f"{encrypted!r} {encrypted} {encrypted.token}"


def test_a_new_key_in_front_of_the_old_one_opens_what_the_old_one_sealed() -> None:
    old, new = new_key(), new_key()
    encrypted = Vault([old]).encrypt(CANARY)
    assert Vault([new, old]).decrypt(encrypted) == CANARY
    with pytest.raises(SecretsNotKept):
        Vault([new]).decrypt(encrypted)
    with pytest.raises(SecretsNotKept):
        Vault([old]).decrypt(Vault([new, old]).encrypt(CANARY))


def test_without_a_key_nothing_is_kept() -> None:
    with pytest.raises(SecretsNotKept) as refused:
        Vault().encrypt(CANARY)
    assert CANARY not in str(refused.value)
    with pytest.raises(SecretsNotKept):
        Vault().decrypt(Encrypted("token"))


def test_the_same_secret_looks_the_same_only_under_the_same_key() -> None:
    key = new_key()
    one, same, other = Vault([key]).encrypt(CANARY), Vault([key]).encrypt(CANARY), Vault([key]).encrypt("another")
    assert repr(one) == repr(same)
    assert one.token != same.token
    assert repr(one) != repr(other)
    assert repr(one) != repr(Vault([new_key()]).encrypt(CANARY))


@pytest.mark.parametrize("key", ["", "short", "not base64 at all !", "a" * 44, "ä" * 32])
def test_a_key_that_is_none_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(InvalidSetting) as refused:
        Vault([key])
    assert not key or key not in refused.value.message
