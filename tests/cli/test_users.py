"""`unpause users erase`: what it says before it does it, and what it refuses."""

from __future__ import annotations

import io

import pytest

from tests.cli.here import Here


@pytest.fixture
def known(here: Here) -> Here:
    """Return a folder with a database that knows a user."""
    here.run("db", "upgrade")
    here.run("tokens", "create", "--user", "Zoë %")
    return here


def test_it_says_what_there_is_asks_and_erases_once(known: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    says = "'Zoë %' in organization 1: 1 tokens, 1 users\n"
    assert known.run("users", "erase", "Zoë %", "--dry-run").stdout == says
    done = known.run("users", "erase", "Zoë %")
    assert (done.returncode, done.stdout) == (2, says)
    assert "--yes" in done.stderr

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("Zoë\n"))
    assert "Nothing was erased" in known.run("users", "erase", "Zoë %").stderr
    monkeypatch.setattr("sys.stdin", Terminal("Zoë %\n"))
    assert "the trail knows the user as erased-" in known.run("users", "erase", "Zoë %").stdout
    assert known.run("users", "erase", "Zoë %", "--yes").stdout == "Nothing is known of 'Zoë %' in organization 1\n"
    assert "Zoë" not in known.run("tokens", "list").stdout
    assert known.run("audit", "verify").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nobody", "--yes"], 0, "Nothing is known of 'nobody'"),
        (["Zoë", "--yes"], 0, "Nothing is known of 'Zoë'"),
        (["", "--yes"], 2, "A user has a name"),
        (["Zoë %", "--yes", "--org", "9"], 2, "There is no organization 9"),
        (["Zoë %", "--yes", "--database-url", "sqlite:///none.db"], 2, "There is no database none.db"),
    ],
)
def test_what_is_not_there_is_not_erased(known: Here, arguments: list[str], code: int, says: str) -> None:
    done = known.run("users", "erase", *arguments)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert "Zoë %" in known.run("tokens", "list").stdout
