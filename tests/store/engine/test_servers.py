"""URLs of PostgreSQL, also of several servers, as libpq has them."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import URL

from tests.support.engines import USUAL_CONNECTION
from unpause.store.engine import servers
from unpause.store.engine.database import parse_url, secrets_in_url
from unpause.store.engine.servers import connection_arguments, shown_url

TWO = {"host": "one,two", "port": "5432,5433", "dbname": "unpause", "user": "u", "password": "p4ss"}


def arguments_of(url: URL) -> dict[str, object]:
    """Return what the driver connects with."""
    return dict(url.get_dialect()().create_connect_args(url)[1])


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://u:p4ss@one:5432,two:5433/unpause",
        "postgres://u:p4ss@one:5432,two:5433/unpause?target_session_attrs=read-write",
        "postgresql+psycopg://u:p4ss@one:5432,two:5433/unpause",
        "postgresql+psycopg://u:p4ss@/unpause?host=one:5432&host=two:5433",
        "postgresql://u:p4ss@/unpause?host=one,two&port=5432,5433",
    ],
)
def test_of_several_servers_the_one_that_writes_is_used(text: str) -> None:
    assert arguments_of(parse_url(text)) == {**TWO, "target_session_attrs": "read-write"}


def test_what_the_url_says_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_CONNECTION", USUAL_CONNECTION)
    url = parse_url("postgresql://one,two/unpause?target_session_attrs=any&connect_timeout=2")
    assert arguments_of(url)["target_session_attrs"] == "any"
    assert "connect_timeout" not in connection_arguments(url)
    assert connection_arguments(parse_url("postgresql://one/unpause"))["connect_timeout"] == 5


@pytest.mark.parametrize(
    ("text", "hosts"),
    [("postgresql://[::1]:5432,[fe80::1]/x", ("::1,fe80::1", "5432,")), ("postgresql://one,two/x", ("one,two", ","))],
)
def test_hosts_need_no_port_and_may_be_addresses(text: str, hosts: tuple[str, str]) -> None:
    found = arguments_of(parse_url(text))
    assert (found["host"], found["port"]) == hosts


def test_a_comma_in_a_password_names_no_hosts() -> None:
    assert arguments_of(parse_url("postgresql://u:p,4ss@one/x")) == {
        "host": "one",
        "dbname": "x",
        "user": "u",
        "password": "p,4ss",
    }


def test_a_url_is_shown_without_its_passwords() -> None:
    shown = shown_url(parse_url("postgresql://u:p4ss@one:5432,two/x?sslpassword=hunter2"))
    assert shown == "postgresql+psycopg://u:***@one:5432,two/x?sslpassword=%2A%2A%2A&target_session_attrs=read-write"


def test_passwords_in_the_query_are_secrets() -> None:
    assert secrets_in_url("postgresql://u@one,two/x?password=p%404ss&a=b") == ["p%404ss", "p@4ss"]
