"""`unpause keys new`, and what a server says to a key that is none."""

from __future__ import annotations

import base64
from unittest import mock

import pytest
from cryptography.fernet import Fernet

from tests.cli.here import Here
from unpause.vault import Vault, new_key


def test_a_new_key_is_printed_alone_and_fits_the_vault(here: Here) -> None:
    first, second = (here.run("keys", "new") for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    [key] = first.stdout.splitlines()
    assert Vault([key]).open(Vault([key]).seal("secret")) == "secret"
    assert first.stdout != second.stdout


def test_keys_alone_lists_what_it_can_do(here: Here) -> None:
    done = here.run("keys")
    assert (done.returncode, done.stderr) == (0, "")
    assert "│ new " in done.stdout


def test_a_server_refuses_a_key_that_is_none_and_does_not_show_it(here: Here) -> None:
    refused = here.run("demo", "--port", "0", "--encryption-key", "canary-91")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "unpause keys new" in refused.stderr
    assert "canary-91" not in refused.stderr
    assert list(here.folder.iterdir()) == [], "and nothing is made on disk"


def test_a_new_key_never_begins_as_an_option_does() -> None:
    made = [base64.urlsafe_b64encode(bytes([first]) + bytes(31)) for first in (0xF8, 0xFB, 0xFB, 0x00)]
    with mock.patch.object(Fernet, "generate_key", side_effect=made):
        assert new_key() == made[-1].decode()


@pytest.mark.parametrize("first", [b"\xf8", b"\xfb\xe0"], ids=["one dash", "two dashes"])
@pytest.mark.parametrize("more", ["", ",x"])
def test_a_key_that_begins_with_a_dash_can_be_given(here: Here, first: bytes, more: str) -> None:
    key = base64.urlsafe_b64encode(first.ljust(32, b"a")).decode() + more
    assert key.startswith("-")
    for provided in ([f"--encryption-key={key}"], ["--encryption-key", key]):
        done = here.run("serve", *provided, "--port", "0")
        # It went on to the next thing that is missing.
        assert done.stderr.startswith("unpause: no agents to serve")
