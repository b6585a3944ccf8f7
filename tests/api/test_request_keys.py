"""The fingerprint of a request with an Idempotency-Key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unpause.api.idempotency import fields_of, read_request_key
from unpause.domain.idempotency import RequestKey
from unpause.domain.principal import Principal
from unpause.domain.webhooks import Address, WebhookTarget
from unpause.services.commands import CreateRun
from unpause.vault import Vault, new_key

ADA = Principal(1, "ada", subject="ada")
VAULT = Vault([new_key()])


def key_of(command: CreateRun) -> RequestKey:
    """Return the key of a request that creates this run."""
    found = read_request_key(ADA, "k", "create", **fields_of(command))
    assert found is not None
    return found


def signed(secret: str, vault: Vault = VAULT) -> CreateRun:
    return CreateRun("ops", "hello", webhooks=(WebhookTarget(Address("https://example.org"), vault.encrypt(secret)),))


def test_a_fingerprint_stays_the_same_from_release_to_release() -> None:
    """Where this fails, raise the version in ``domain/idempotency.py``."""
    command = CreateRun("ops", "hello", metadata={"ticket": 7})
    assert key_of(command).fingerprint == "2:61389dd49234a321277bdd2b873851c175dba4b0fe05f2dc9062e13cf4744e"


def test_a_secret_sealed_twice_is_the_same_and_another_secret_is_not() -> None:
    assert key_of(signed("one")) == key_of(signed("one"))
    assert key_of(signed("one")) != key_of(signed("two"))


def test_another_value_of_any_field_is_another_request() -> None:
    command = CreateRun("ops", "hello")
    others = [replace(command, prompt="bye"), replace(command, model="x"), replace(command, metadata={})]
    assert len({key_of(each).fingerprint for each in (command, *others)}) == 4


def test_what_has_no_named_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="object has no place in a fingerprint"):
        read_request_key(ADA, "k", "create", what=object())


def test_a_fingerprint_of_another_version_is_taken_for_the_same_request() -> None:
    key = key_of(CreateRun("ops", "hello"))
    other = key_of(CreateRun("ops", "bye"))
    assert key.came_with(key.fingerprint)
    assert not key.came_with(other.fingerprint)
    assert key.came_with("0" * 64)
    assert key.came_with("1:" + other.fingerprint[2:])


def test_a_request_with_a_secret_is_taken_for_the_same_one_while_encryption_keys_are_changed() -> None:
    before, after = key_of(signed("one")), key_of(signed("one", Vault([new_key()])))
    assert after.came_with(before.fingerprint)
    without = key_of(CreateRun("ops", "hello"))
    assert not without.came_with(before.fingerprint)
    assert not before.came_with(without.fingerprint)
    assert not before.came_with(key_of(signed("two")).fingerprint)
