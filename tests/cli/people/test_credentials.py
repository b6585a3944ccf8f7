"""Logins: a token is read without echo, checked, kept for its owner's eyes alone, and in no error."""

from __future__ import annotations

import json
import stat
import termios
import time
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.cli.people.screen import Screen
from tests.cli.people.shell import Shell
from tests.support.processes import DEADLINE, ServerProcess
from unpause.cli.exits import CommandFailed
from unpause.cli.people.credentials import credentials_of, read_url


@pytest.fixture
def nobody(server: ServerProcess, here: Here, monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell(here, monkeypatch, server.address, None)
    del shell.environment["UNPAUSE_URL"]
    return shell


def stored(shell: Shell) -> Path:
    return Path(shell.environment["XDG_CONFIG_HOME"], "unpause", "credentials.json")


def test_a_login_is_checked_and_kept_for_its_owner_alone(
    nobody: Shell, server: ServerProcess, tokens: dict[str, str]
) -> None:
    done = nobody.typed(f"{tokens['dev']}\n", "login", server.address)
    assert done.returncode == 0, done
    assert done.stdout == f"Logged in to {server.address} as dev; later commands use this server\n"
    assert stat.S_IMODE(stored(nobody).stat().st_mode) == 0o600
    assert stat.S_IMODE(stored(nobody).parent.stat().st_mode) == 0o700
    assert [file.name for file in stored(nobody).parent.iterdir()] == ["credentials.json"]
    assert nobody.json("status")["me"]["user_id"] == "dev"

    assert json.loads(nobody.typed(tokens["dev"], "login", server.address, "--json").stdout)["user_id"] == "dev"
    assert nobody.typed(tokens["dev"], "login", server.address, "-q").stdout == f"{server.address}\n"
    assert nobody.lines("logout") == [f"Logged out of {server.address}"]
    assert tokens["dev"] not in stored(nobody).read_text(encoding="utf-8")
    again = nobody.run("logout")
    assert (again.returncode, again.stderr) == (3, "unpause: There is no login to any server\n")


def test_a_token_that_the_server_refuses_is_not_kept_and_not_repeated(nobody: Shell, server: ServerProcess) -> None:
    token = f"unp_AAAAAAAA.{'canary' * 7}x"
    done = nobody.typed(f"{token}\n", "login", server.address)
    assert (done.returncode, done.stdout) == (5, "")
    assert "canary" not in done.stderr
    assert not stored(nobody).exists()


@pytest.mark.parametrize("text", ["", "\n", "two canaries\n", "canary\x1b[0m\n", "canarü\n"], ids=ascii)
def test_what_cannot_be_a_token_is_refused_without_repeating_it(
    nobody: Shell, server: ServerProcess, text: str
) -> None:
    done = nobody.typed(text, "login", server.address)
    assert (done.returncode, done.stdout) == (2, "")
    assert "canar" not in done.stderr


@pytest.mark.parametrize("token", ["unp_AAAAAAAA.canary", "eyJhbGciOi.canary.x"])
@pytest.mark.parametrize(
    "before", [["login", "http://127.0.0.1:1"], ["inbox"], ["inbox", "--agent", "ops"], []], ids=str
)
def test_a_token_typed_as_an_argument_is_not_repeated(nobody: Shell, before: list[str], token: str) -> None:
    done = nobody.run(*before, token)
    assert (done.returncode, done.stdout) == (2, "")
    assert "canary" not in done.stderr


def test_a_terminal_shows_nothing_of_the_token(server: ServerProcess, tokens: dict[str, str], tmp_path: Path) -> None:
    with Screen("login", server.address, environment={"XDG_CONFIG_HOME": str(tmp_path)}) as screen:
        until = time.monotonic() + DEADLINE
        # The prompt comes a moment before the echo is off.
        while termios.tcgetattr(screen.theirs)[3] & termios.ECHO:
            assert time.monotonic() < until
            time.sleep(0.01)
        screen.write(f"{tokens['dev']}\n")
        assert screen.wait() == 0
        shown = "\n".join(screen.shown)
    assert "as dev" in shown
    assert tokens["dev"] not in shown


def test_a_token_is_for_its_server_alone(nobody: Shell, server: ServerProcess, tokens: dict[str, str]) -> None:
    nobody.typed(tokens["dev"], "login", server.address)
    other = server.address.replace("127.0.0.1", "localhost")
    done = nobody.run("inbox", "--url", other)
    assert done.returncode == 5
    assert done.stderr == f"unpause: {other} needs a token: `unpause login {other}`\n"


def test_a_file_that_cannot_be_read_is_named_without_its_text(nobody: Shell) -> None:
    file = stored(nobody)
    file.parent.mkdir(parents=True)
    file.write_text("canary", encoding="utf-8")
    done = nobody.run("inbox")
    assert (done.returncode, done.stderr) == (1, f"unpause: {file} cannot be read: it is not JSON\n")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:7777/", "http://127.0.0.1:7777"),
        ("HTTPS://Unpause.Example/prefix/", "https://unpause.example/prefix"),
        ("localhost:7777", "http://localhost:7777"),
        ("http://[::1]:7777", "http://[::1]:7777"),
    ],
)
def test_a_url_has_one_form(text: str, url: str) -> None:
    assert read_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "ftp://x", "http://", "http://x:port", "http://u:canary@x", "http://x/?a=b", "http://x/#a", "http://[x"],
)
def test_what_is_no_url_of_a_server_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        read_url(text)
    assert refused.value.code == 2
    assert "canary" not in refused.value.message


def test_the_file_is_where_xdg_says_or_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for configured in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert credentials_of(configured).file == tmp_path / ".config/unpause/credentials.json"
    assert credentials_of({"XDG_CONFIG_HOME": "/x"}).file == Path("/x/unpause/credentials.json")
