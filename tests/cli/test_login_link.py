"""`unpause login-link`: what it prints, and that a server signs in with it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import pytest

from tests.cli.here import Here
from tests.support.serving import settings_for

LINK = re.compile(r"(https?://\S+)/console/login\?code=([A-Za-z0-9_-]{43})\n")


@pytest.fixture
def with_database(here: Here) -> Here:
    settings_for(here.folder)
    return here


@pytest.mark.parametrize(
    ("arguments", "base"),
    [
        ((), "http://127.0.0.1:7777"),
        (("--url", "https://agents.example/"), "https://agents.example"),
    ],
)
def test_it_prints_a_link_alone_on_standard_output(with_database: Here, arguments: tuple[str, ...], base: str) -> None:
    done = with_database.run("login-link", "--user", "ops-lead", *arguments)
    assert done.returncode == 0, done
    found = LINK.fullmatch(done.stdout)
    assert found is not None
    assert found[1] == base
    assert found[2] not in done.stderr
    assert "ops-lead" in done.stderr
    with closing(sqlite3.connect(with_database.folder / "unpause.db")) as connection:
        [(user, scopes, expires)] = connection.execute("SELECT user_id, scopes, expires_at FROM tokens").fetchall()
    assert user == "ops-lead"
    assert "agent_os:admin" not in scopes
    assert expires is not None


def test_an_administrator_s_link_is_requested_as_such(with_database: Here) -> None:
    done = with_database.run("login-link", "--user", "root", "--admin", "--expires", "1h")
    assert done.returncode == 0, done


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--user is missing"),
        (("--user", "x", "--url", "agents.example"), "--url must begin with https:// or http://"),
        (("--user", "x", "--scopes", "agents:fly"), "Unknown scope: agents:fly"),
        (("--user", ""), "A name must have 1 to 255 printable characters"),
        (("--user", "x", "--org", "99"), "There is no organization 99"),
    ],
)
def test_it_refuses_what_makes_no_link(with_database: Here, arguments: tuple[str, ...], message: str) -> None:
    done = with_database.run("login-link", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
