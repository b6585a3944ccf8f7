"""`unpause keys new`, and what a server says to a key that is none."""

from __future__ import annotations

import asyncio
import base64
from contextlib import closing
from pathlib import Path
from unittest import mock

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select

from tests.cli.here import Here
from tests.support.channels import CHANNELS, channel_url
from tests.support.databases import NOW
from tests.support.processes import ServerProcess, unpause
from tests.support.receiver import Receiver
from tests.support.serving import settings_for
from tests.support.webhook_server import WEBHOOK, webhook_server
from unpause.cli import key_rotation
from unpause.domain.webhooks import Address, Delivery, WebhookTarget
from unpause.store.deliveries import add_deliveries
from unpause.store.encrypted_columns import ENCRYPTED_COLUMNS
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import webhook_deliveries
from unpause.store.webhooks import find_organization_target, replace_organization_target
from unpause.vault import Encrypted, Vault, new_key


def test_a_new_key_is_printed_alone_and_fits_the_vault(here: Here) -> None:
    first, second = (here.run("keys", "new") for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    [key] = first.stdout.splitlines()
    assert Vault([key]).decrypt(Vault([key]).encrypt("secret")) == "secret"
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


async def filled(folder: Path, key: str) -> None:
    """Have secrets of every kind in a database: of a webhook, of a message that is still to be sent, of a channel."""
    async with webhook_server(folder, delivers=False, encryption_key=key) as server:
        await server.configure("https://hooks.example/canary-path", secret="canary-secret")
        body = {"url": "ntfys://canary-channel@ntfy.example/topic", "owner": "organization"}
        assert (await server.client.post("/notifications/channels", json=body)).status_code == 201
        await server.create()


def stored_secrets(folder: Path) -> list[str]:
    """Return all that is stored encrypted."""
    with closing(plain_engine(f"sqlite:///{folder}/unpause.db").connect()) as connection:
        return [
            str(value)
            for place in ENCRYPTED_COLUMNS
            for value in connection.execute(select(place.column).where(place.column.is_not(None))).scalars()
        ]


async def test_keys_rotate_and_the_old_one_is_needed_no_more(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    old, key = new_key(), new_key()
    await filled(here.folder, old)
    before = stored_secrets(here.folder)
    assert len(before) == len(ENCRYPTED_COLUMNS), "one of each"
    monkeypatch.setenv("UNPAUSE_ENCRYPTION_KEY", f"{key},{old}")
    done = await asyncio.to_thread(here.run, "keys", "rotate")
    # After the log of the server before.
    assert (done.returncode, done.stdout.splitlines()[-2:]) == (
        0,
        ["5 secrets are encrypted with the first key now", "No secret needs another key any more"],
    )
    vault, after = Vault([key]), stored_secrets(here.folder)
    assert not set(before) & set(after)
    opened = [vault.decrypt(Encrypted(value.rpartition("#sealed:")[2])) for value in after]
    assert opened.count("canary-secret") == 2
    assert opened.count("/canary-path") == 2
    assert opened[-1] == "ntfys://canary-channel@ntfy.example/topic"
    again = await asyncio.to_thread(here.run, "keys", "rotate")
    assert again.stdout.startswith("0 secrets are encrypted")
    assert stored_secrets(here.folder) == after


async def test_secrets_that_no_key_fits_stay_and_are_counted(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    await filled(here.folder, new_key())
    before = stored_secrets(here.folder)
    monkeypatch.setenv("UNPAUSE_ENCRYPTION_KEY", new_key())
    done = await asyncio.to_thread(here.run, "keys", "rotate")
    assert (done.returncode, done.stderr) == (1, "unpause: 5 secrets cannot be decrypted with these keys\n")
    assert stored_secrets(here.folder) == before


def test_a_message_whose_secret_was_read_before_a_rotation_and_written_in_it_is_encrypted_again_too(
    here: Here, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, key = new_key(), new_key()
    target = WebhookTarget(Address("https://a.example"), Vault([old]).encrypt("canary"))
    engine = plain_engine(postgres_url)
    with engine.begin() as connection:
        replace_organization_target(connection, 1, target, NOW)
    monkeypatch.setenv("UNPAUSE_ENCRYPTION_KEY", f"{key},{old}")
    with engine.connect() as slow:
        found = find_organization_target(slow, 1)
        assert found is not None

        def write_what_was_read(_: float) -> None:
            add_deliveries(slow, [Delivery("1", 1, found.address, "{}", NOW, found.secret)])
            slow.commit()

        # The rotation waits for this transaction.
        monkeypatch.setattr(key_rotation, "sleep", write_what_was_read)
        done = here.run("keys", "rotate", "--database-url", postgres_url)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "2 secrets are encrypted with the first key now")
    with engine.connect() as connection:
        stored = connection.execute(select(webhook_deliveries.c.secret)).scalar_one()
    assert Vault([key]).decrypt(Encrypted(stored)) == "canary"


async def test_an_address_that_was_stored_without_a_key_is_encrypted_too(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with webhook_server(here.folder, encryption_key=None) as server:
        await server.configure("https://hooks.example/canary-path")
    key = new_key()
    monkeypatch.setenv("UNPAUSE_ENCRYPTION_KEY", key)
    done = await asyncio.to_thread(here.run, "keys", "rotate")
    assert "1 secrets are encrypted with the first key now" in done.stdout
    [stored] = stored_secrets(here.folder)
    assert "canary" not in stored
    async with webhook_server(here.folder, encryption_key=key) as server:
        assert (await server.client.get(WEBHOOK)).json()["url"] == "https://hooks.example/canary-path"


def test_without_a_key_or_a_database_nothing_rotates(here: Here) -> None:
    assert "There is no database" in here.run("keys", "rotate").stderr
    settings_for(here.folder)
    assert "encryption_key: there is none" in here.run("keys", "rotate").stderr
    assert here.run("keys", "rotate").returncode == 2


def test_keys_rotate_beside_a_server_that_goes_on(tmp_path: Path) -> None:
    old, key = new_key(), new_key()
    channel, tests = {"url": "", "owner": "organization"}, f"{CHANNELS}/1/test"
    with Receiver() as receiver:
        options, both = ("--notify-private-targets",), {"UNPAUSE_ENCRYPTION_KEY": f"{key},{old}"}
        server = ServerProcess(tmp_path, *options, environment={"UNPAUSE_ENCRYPTION_KEY": old})
        with server, server.client() as client:
            body = {**channel, "url": channel_url(receiver)}
            assert client.post(CHANNELS, json=body).status_code == 201
        with ServerProcess(tmp_path, *options, environment=both) as server:
            url = f"sqlite:///{server.database}"
            done = unpause("keys", "rotate", "--database-url", url, folder=tmp_path, **both)
            assert done.stdout.startswith("1 secrets are encrypted with the first key now")
            with server.client() as client:
                assert client.post(tests).json() == {"success": True, "error": None}
        server = ServerProcess(tmp_path, *options, environment={"UNPAUSE_ENCRYPTION_KEY": key})
        with server, server.client() as client:
            assert client.post(tests).json() == {"success": True, "error": None}
