"""`unpause notify`: operators add, list, test and remove channels beside a running server."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing

import pytest

from tests.cli.here import Here
from tests.support.channels import SECRET, channel_url
from tests.support.receiver import Receiver
from tests.support.serving import settings_for
from unpause.vault import new_key

URL = f"ntfys://{SECRET}@ntfy.example/topic"


@pytest.fixture
def with_key(here: Here, monkeypatch: pytest.MonkeyPatch) -> Here:
    settings_for(here.folder)
    monkeypatch.setenv("UNPAUSE_ENCRYPTION_KEY", new_key())
    monkeypatch.setenv("UNPAUSE_NOTIFY_PRIVATE_TARGETS", "true")
    return here


def test_channels_are_added_listed_without_their_urls_and_removed(
    with_key: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_key.run("notify", "list").stdout == "There are no channels\n"
    added = with_key.run("notify", "add", URL, "--name", "on call", "--events", "waiting, failed")
    assert (added.returncode, added.stdout, added.stderr) == (0, "Channel 1 is added: ntfys\n", "")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{URL}\n"))
    assert with_key.run("notify", "add", "--user", "ops-lead").stdout == "Channel 2 is added: ntfys\n"
    listed = with_key.run("notify", "list").stdout
    assert listed.splitlines() == [
        "1\tntfys\torganization\ton call\tnever used\twaiting,failed",
        "2\tntfys\tops-lead\t-\tnever used\twaiting,expires_soon,in_doubt,failed",
    ]
    assert with_key.run("notify", "remove", "1").stdout == "Channel 1 is removed\n"
    assert with_key.run("notify", "list").stdout.startswith("2\t")


def test_a_test_message_is_sent_and_a_failure_is_exit_code_1(with_key: Here) -> None:
    with Receiver(200, 500) as receiver:
        with_key.run("notify", "add", channel_url(receiver))
        done = with_key.run("notify", "test", "1")
        assert (done.returncode, done.stdout) == (0, "The test message was delivered\n")
        failed = with_key.run("notify", "test", "1")
    assert (failed.returncode, failed.stderr) == (
        1,
        "unpause: the test message was not delivered: answered 500\n",
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["add", f"syslog://{SECRET}"], "Channels cannot be of the kind syslog://"),
        (["add", URL, "--events", "nothing"], "Unknown event: nothing"),
        (["add", URL, "--user", "x", "--scopes", "agents:fly"], "Unknown scope: agents:fly"),
        (["add", URL, "--user", ""], "A name must have 1 to 255 printable characters"),
        (["remove", "7"], "Channel not found"),
        (["test", "7"], "Channel not found"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_without_the_url(
    with_key: Here, arguments: list[str], reason: str
) -> None:
    done = with_key.run("notify", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"unpause: {reason}")
    assert SECRET not in done.stderr


def test_without_a_key_a_channel_is_refused(here: Here) -> None:
    settings_for(here.folder)
    done = here.run("notify", "add", URL)
    assert done.returncode == 2
    assert "--encryption-key" in done.stderr


def test_what_a_command_warns_of_stands_on_standard_error_as_scripts_read_its_output(with_key: Here) -> None:
    with closing(sqlite3.connect(with_key.folder / "unpause.db")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '0999'")
    added = with_key.run("notify", "add", URL)
    assert (added.returncode, added.stdout) == (0, "Channel 1 is added: ntfys\n")
    [warning] = added.stderr.splitlines()
    assert "database schema differs" in warning
    assert SECRET not in warning
