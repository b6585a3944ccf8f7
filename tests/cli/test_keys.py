"""`unpause keys new`, and what a server says to a key that is none."""

from __future__ import annotations

from tests.cli.here import Here
from unpause.vault import Vault


def test_a_new_key_is_printed_alone_and_fits_the_vault(here: Here) -> None:
    first, second = (here.run("keys", "new") for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    [key] = first.stdout.splitlines()
    assert Vault([key]).open(Vault([key]).seal("secret")) == "secret"
    assert first.stdout != second.stdout


def test_keys_without_an_action_are_refused(here: Here) -> None:
    assert here.run("keys").returncode == 2


def test_a_server_refuses_a_key_that_is_none_and_does_not_show_it(here: Here) -> None:
    refused = here.run("demo", "--port", "0", "--encryption-key", "canary-91")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "unpause keys new" in refused.stderr
    assert "canary-91" not in refused.stderr
    assert list(here.folder.iterdir()) == [], "and nothing is made on disk"
