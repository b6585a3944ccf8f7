"""What a route, a driver, a library or the database raises is logged, but never with a secret in it."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from tests.support.databases import NOW
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving
from unpause.agents.redaction import Redaction
from unpause.cli.logs import configure_logging
from unpause.errors import Collision, StorageError
from unpause.factories import build_redaction
from unpause.services.runs import RunService
from unpause.settings import Settings
from unpause.store.engine.database import Connection, Database, secrets_in_url
from unpause.store.tables import webhook_targets
from unpause.testing.environment import log_plainly

KEY = 'canary-"key"-\u00e4-0123456789'
TOKEN = f"unp_AAAAAAAA.{'canary' * 7}x"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlY2FuYXJ5"
SECRETS = (KEY, TOKEN, JWT)
LOCAL = "canary-of-a-local-variable"


@pytest.fixture(params=[False, True], ids=["json", "readable"])
def logged(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Log as a server does that knows one secret; return what was written."""
    root, errors = logging.getLogger(), io.StringIO()
    level = root.level
    # Those of pytest stay open.
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", errors)
    configure_logging(Redaction({"SOME_API_KEY": KEY}), readable=request.param)

    def read() -> str:
        written = errors.getvalue()
        if not request.param:
            for line in written.splitlines():
                json.loads(line)
        return written

    yield read
    log_plainly()
    root.setLevel(level)


def fail(*_: object, **__: object) -> str:
    """Raise as careless code does."""
    local = LOCAL
    raise RuntimeError(f"could not use {KEY} with Bearer {TOKEN} or {JWT} of {len(local)} characters")


def assert_hidden(written: str) -> None:
    assert "Traceback" in written
    assert "[hidden]" in written
    for secret in (*SECRETS, LOCAL, json.dumps(KEY)[1:-1]):
        assert secret not in written


async def test_a_route_that_fails_tells_the_client_nothing_and_the_log_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    async with serving(tmp_path, drivers=[ScriptedDriver()]) as client:
        for method in ("get_view", "get_run", "get_summary"):
            monkeypatch.setattr(RunService, method, fail, raising=False)
        agno = await client.get("/agents/scripted/runs/some?token=canary")
        codegen = await client.get("/v1/organizations/1/agent/run/1?token=canary")
    assert (agno.status_code, agno.json()) == (500, {"detail": "Internal server error"})
    assert codegen.json() == {"message": "Internal server error", "status_code": 500}
    written = logged()
    assert_hidden(written)
    assert "token=canary" not in written


async def test_a_driver_that_fails_ends_its_run_without_its_words(tmp_path: Path, logged: Callable[[], str]) -> None:
    async with serving(tmp_path, drivers=[ScriptedDriver(fail)]) as client:
        run = (await client.post("/agents/scripted/runs", data={"message": "go", "stream": "false"})).json()
        tools = [{**run["tools"][0], "confirmed": True}]
        form = {"tools": json.dumps(tools), "stream": "false"}
        ended = (await client.post(f"/agents/scripted/runs/{run['run_id']}/continue", data=form)).json()
        events = (await client.get(f"/agents/scripted/runs/{run['run_id']}/events")).text
    assert (ended["status"], ended["content"]) == ("ERROR", "The agent failed: RuntimeError")
    assert "canary" not in events
    assert_hidden(logged())


def test_what_a_library_logs_is_searched_for_secrets_too(logged: Callable[[], str]) -> None:
    log = logging.getLogger("some.library")
    try:
        fail()
    except RuntimeError:
        log.exception("it failed with %s", TOKEN)
    log.error("and with %r", {"Authorization": f"Bearer {JWT}"})
    structlog.get_logger("own").warning("said", value=KEY, values=[TOKEN], number=1, nothing=None)
    written = logged()
    assert_hidden(written)
    assert written.count("[hidden]") >= 5


async def test_what_a_statement_was_given_is_not_in_the_databases_error(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        values = {"organization_id": 999, "url": "http://a/?t=canary", "secret": "canary", "enabled": True}
        connection.execute(insert(webhook_targets).values(**values, created_at=NOW))

    def typo(connection: Connection) -> None:
        connection.execute(text("SELECT * FROM nowhere WHERE a = :secret"), {"secret": "canary"})

    async with Database(database_url).opened() as database:
        for work in (unit, typo):
            with pytest.raises((StorageError, Collision)) as failed:
                await database.write(work)
            assert isinstance(failed.value.__cause__, DBAPIError)
            # Of what is shown to clients the statement is no part, and its values are not even in the log.
            assert "nowhere" not in str(failed.value)
            assert "canary" not in f"{failed.value!r} {failed.value.__cause__} {failed.value.__cause__!r}"


def test_what_looks_like_a_secret_is_hidden_wherever_it_comes_from() -> None:
    redaction = Redaction({})
    for secret in (TOKEN, JWT, "whsec_Y2FuYXJ5Y2FuYXJ5/+==", "sk-canarycanary", "Bearer canarycanary"):
        assert "canary" not in redaction.hide(f"({secret})").replace("Y2FuYXJ5", "canary")
        assert redaction.hide(f"({secret})") in {"([hidden])", "([hidden]==)"}
    assert redaction.hide("postgresql://user:canary@host/db") == "postgresql://[hidden]@host/db"
    assert redaction.hide("a line about keys and tokens") == "a line about keys and tokens"


def test_the_secrets_of_the_settings_are_known_however_they_were_given() -> None:
    settings = Settings(
        database_url="postgresql+psycopg://user:canary%40one@host/db",
        listener_url="postgresql+psycopg://user:canary-two@host/db",
        encryption_key=SecretStr("canary-three, canary-four"),
        jwt_key=SecretStr("canary-five"),
    )
    redaction = build_redaction(settings)
    for secret in ("canary%40one", "canary@one", "canary-two", "canary-three", "canary-four", "canary-five"):
        assert redaction.hide(f"x{secret}x") == "x[hidden]x"
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgresql+psycopg://user:secret@host/db", ["secret"]),
        ("postgresql+psycopg://user:se%2Fcret@host/db", ["se%2Fcret", "se/cret"]),
        # The database's own parser ends the password at the first @.
        ("postgresql+psycopg://user:left@right@host/db", ["left@right", "left", "right"]),
        ("postgresql+psycopg://user@host/db", []),
        ("sqlite:///unpause.db", []),
    ],
)
def test_the_password_in_a_databases_address_is_found(url: str, found: list[str]) -> None:
    assert secrets_in_url(url) == found
