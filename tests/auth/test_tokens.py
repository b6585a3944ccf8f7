"""Tokens: shown once, kept as a hash, counted until they expire or are revoked, and what a wrong one learns."""

from __future__ import annotations

import hmac
import re
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.databases import Place, dump, sqlite_url
from tests.support.server import SettableClock
from unpause.auth.authenticator import Authenticator
from unpause.auth.tokens import NewToken, create_first_token, create_token, replace_token, revoke_token
from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.errors import InvalidInput, NotFound, Unauthenticated
from unpause.store.engine.database import Database, database_file
from unpause.store.engine.schema import plain_connection, plain_engine
from unpause.store.users import add_organization

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Connection

SHAPE = re.compile(r"unp_[A-Za-z0-9]{8}\.[A-Za-z0-9_-]{43}")
OPERATOR = Principal(1, "command line", via="cli")
INVALID, EXPIRED = "Invalid authentication token", "Token has expired"


@dataclass
class Desk:
    """Who asks, as one server sees it; ``act`` does what another process would."""

    url: str
    clock: SettableClock
    authenticator: Authenticator

    def act(self, unit: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 - what the unit returns
        """Run the unit in a transaction of its own."""
        with plain_connection(self.url) as connection, connection.begin():
            return unit(connection)

    def make(self, **requested: Any) -> tuple[Token, str]:  # noqa: ANN401 - the fields of a new token
        """Make a token."""
        made: tuple[Token, str] = self.act(
            lambda connection: create_token(connection, NewToken(**requested), OPERATOR, self.clock.now())
        )
        return made

    def rotate(self, public: str, overlap: timedelta) -> tuple[Token, str]:
        """Replace a token, which counts for the overlap longer."""
        made: tuple[Token, str] = self.act(
            lambda connection: replace_token(connection, public, OPERATOR, self.clock.now(), overlap)
        )
        return made

    def revoke(self, public: str) -> None:
        """Have a token count no more."""
        self.act(lambda connection: revoke_token(connection, public, OPERATOR, self.clock.now()))

    def rows(self, table: str = "tokens") -> list[dict[str, Any]]:
        """Return every row of a table."""
        return Place(self.url).dump()[table]

    async def refusal(self, text: str) -> str:
        """Return what somebody with this token hears."""
        with pytest.raises(Unauthenticated) as caught:
            await self.authenticator.identify(f"Bearer {text}")
        return caught.value.message


@asynccontextmanager
async def at_desk(url: str) -> AsyncIterator[Desk]:
    database, clock = Database(url, 2), SettableClock()
    async with database.opened():
        yield Desk(url, clock, Authenticator(database, clock, None, is_open=False))


@pytest.fixture
def sqlite_file(tmp_path: Path, sqlite_template: Path) -> str:
    shutil.copyfile(sqlite_template, tmp_path / "unpause.db")
    return sqlite_url(tmp_path / "unpause.db")


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with at_desk(database_url) as desk:
        yield desk


async def test_a_token_says_who_asks_and_what_they_may_do(desk: Desk) -> None:
    token, text = desk.make(user_id="alice", name="laptop")
    assert SHAPE.fullmatch(text)
    expected = Principal(1, "alice", subject="alice", scopes=frozenset(DEFAULT_SCOPES), token_id=token.id)
    assert await desk.authenticator.identify(f"Bearer {text}") == expected
    assert await desk.authenticator.identify(text) == expected
    second = desk.act(lambda connection: add_organization(connection, "second", desk.clock.now()))
    service, text = desk.make(organization_id=second, scopes=("agents:ops:run", "finance:approve"))
    assert await desk.authenticator.identify(text) == Principal(
        second, scopes=frozenset({"agents:ops:run", "finance:approve"}), token_id=service.id
    )


async def test_only_the_hash_of_a_token_is_anywhere_in_the_database(desk: Desk) -> None:
    texts = [desk.make(user_id="alice")[1] for _ in range(3)]
    for text in texts:
        await desk.authenticator.identify(text)
    await desk.authenticator.sweep()
    with closing(plain_engine(desk.url).connect()) as connection:
        everything = repr(dump(connection))
    file = database_file(desk.url)
    if file is not None:
        everything += "".join(each.read_bytes().decode("latin-1") for each in file.parent.glob(f"{file.name}*"))
    for text in texts:
        public, secret = text.removeprefix("unp_").split(".")
        assert public in everything
        assert secret not in everything
        assert secret[:12] not in everything


async def test_no_two_tokens_are_alike_and_no_id_looks_like_an_option(desk: Desk) -> None:
    def unit(connection: Connection) -> list[str]:
        return [create_token(connection, NewToken(), OPERATOR, desk.clock.now())[1] for _ in range(200)]

    texts = desk.act(unit)
    assert all(SHAPE.fullmatch(text) for text in texts)
    assert len({text.partition(".")[0] for text in texts}) == len({text.partition(".")[2] for text in texts}) == 200


async def test_a_token_that_is_not_right_learns_nothing_of_why(desk: Desk) -> None:
    token, text = desk.make(user_id="alice")
    other_token, other = desk.make(user_id="bob")
    secret, other_secret = (each.partition(".")[2] for each in (text, other))
    desk.revoke(other_token.id)
    wrong = [
        f"unp_{token.id}.{'A' * 43}",
        f"unp_{token.id}.{other_secret}",
        f"unp_{other_token.id}.{secret}",
        f"unp_AAAAAAAA.{secret}",
        other,
        *(text[:-1], f"{text}A", f"{text}=", text.upper(), text.replace(".", " "), text.removeprefix("unp_")),
        *("unp_", token.id, secret, f"unp_.{secret}", "garbage", "é" * 20, f"unp_{token.id}\n.{secret}"),
    ]
    assert {await desk.refusal(each) for each in wrong} == {INVALID}
    await desk.authenticator.identify(text)


async def test_a_token_is_compared_in_the_same_time_whether_it_exists_or_not(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, text = desk.make()
    compared: list[tuple[int, int]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    spied = type("Spied", (), {"compare_digest": staticmethod(compare)})
    monkeypatch.setattr("unpause.auth.authenticator.hmac", spied)
    for wrong in (f"unp_{token.id}.{'A' * 43}", f"unp_AAAAAAAA.{'A' * 43}", "garbage"):
        await desk.refusal(wrong)
    await desk.authenticator.identify(text)
    assert compared == [(64, 64)] * 4


async def test_a_token_counts_until_the_moment_it_expires(desk: Desk) -> None:
    _, text = desk.make(lifetime=timedelta(seconds=90))
    desk.clock.move(89.9)
    await desk.authenticator.identify(text)
    desk.clock.move(0.1)
    assert await desk.refusal(text) == EXPIRED
    assert await desk.refusal(f"{text[:-4]}AAAA") == INVALID, "who does not have it is not told that there was one"


async def test_a_revoked_token_counts_for_two_seconds_at_most(desk: Desk) -> None:
    token, text = desk.make()
    unused, other = desk.make()
    await desk.authenticator.identify(text)
    for each in (token, unused):
        desk.revoke(each.id)
    assert await desk.refusal(other) == INVALID
    desk.clock.move(1.9)
    await desk.authenticator.identify(text)
    desk.clock.move(0.1)
    assert await desk.refusal(text) == INVALID


async def test_using_a_token_does_not_make_its_revocation_come_later(desk: Desk) -> None:
    token, text = desk.make()
    await desk.authenticator.identify(text)
    desk.revoke(token.id)
    for _ in range(3):
        desk.clock.move(0.6)
        await desk.authenticator.identify(text)
    desk.clock.move(0.2)
    assert await desk.refusal(text) == INVALID


async def test_a_token_counts_as_soon_as_it_is_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unpause.auth.tokens.secrets.choice", lambda _: "A")
    assert await desk.refusal(f"unp_AAAAAAAA.{'A' * 43}") == INVALID
    _, text = desk.make()
    assert text.startswith("unp_AAAAAAAA.")
    await desk.authenticator.identify(text)


async def test_when_a_token_was_used_is_written_down_later_and_only_forward(desk: Desk) -> None:
    _, text = desk.make()
    _, unused = desk.make()
    await desk.refusal(f"{unused[:-4]}AAAA")
    first = desk.clock.now()
    await desk.authenticator.identify(text)
    assert [row["last_used_at"] for row in desk.rows()] == [None, None]
    assert await desk.authenticator.sweep() == 1
    assert {row["last_used_at"] for row in desk.rows()} == {first, None}
    assert await desk.authenticator.sweep() == 0
    # Another node, whose clock is behind, takes nothing back.
    desk.clock.move(-30)
    await desk.authenticator.identify(text)
    await desk.authenticator.sweep()
    assert {row["last_used_at"] for row in desk.rows()} == {first, None}
    desk.clock.move(90)
    await desk.authenticator.identify(text)
    await desk.authenticator.sweep()
    assert {row["last_used_at"] for row in desk.rows()} == {first + timedelta(seconds=60), None}


async def test_a_token_is_replaced_by_one_that_is_like_it(desk: Desk) -> None:
    second = desk.act(lambda connection: add_organization(connection, "second", desk.clock.now()))
    requested = {"organization_id": second, "user_id": "alice", "name": "laptop", "scopes": ("agents:ops:run",)}
    old, text = desk.make(**requested, lifetime=timedelta(days=90))
    desk.clock.move(3600)
    now = desk.clock.now()
    new, fresh = desk.rotate(old.id, timedelta())
    like = replace(old, id=new.id, hash=new.hash, created_at=now, expires_at=now + timedelta(days=90))
    assert new == like
    assert fresh != text
    assert await desk.refusal(text) == INVALID
    assert (await desk.authenticator.identify(fresh)).subject == "alice"
    for wrong in (old.id, text):
        with pytest.raises(InvalidInput, match="revoked or expired") as caught:
            desk.rotate(wrong, timedelta())
        assert text not in caught.value.message


async def test_the_old_token_may_count_for_a_while_longer(desk: Desk) -> None:
    old, text = desk.make()
    soon, short = desk.make(lifetime=timedelta(seconds=10))
    for each in (old, soon):
        desk.rotate(each.id, timedelta(seconds=60))
    desk.clock.move(59)
    await desk.authenticator.identify(text)
    assert await desk.refusal(short) == EXPIRED, "no longer than it would have anyway"
    desk.clock.move(1)
    assert await desk.refusal(text) == EXPIRED


async def test_who_made_and_revoked_a_token_is_told_where_the_token_belongs(desk: Desk) -> None:
    second = desk.act(lambda connection: add_organization(connection, "second", desk.clock.now()))
    token, _ = desk.make(organization_id=second, user_id="alice", scopes=("agents:run",))

    def unit(connection: Connection) -> Token:
        new, _ = replace_token(connection, token.id, OPERATOR, desk.clock.now(), timedelta(seconds=5))
        revoke_token(connection, new.id, OPERATOR, desk.clock.now())
        # Once is enough.
        return revoke_token(connection, new.id, OPERATOR, desk.clock.now())

    new = desk.act(unit)
    reported = [(row["organization_id"], row["action"], row["subject"], row["via"]) for row in desk.rows("audit")]
    assert reported == [
        (second, "token.created", token.id, "cli"),
        (second, "token.created", new.id, "cli"),
        (second, "token.revoked", token.id, "cli"),
        (second, "token.revoked", new.id, "cli"),
    ]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"organization_id": 99}, "There is no organization 99"),
    ({"organization_id": 0}, "There is no organization 0"),
    ({"organization_id": -1}, "There is no organization -1"),
    ({"organization_id": 10**30}, "There is no organization"),
    *(
        ({"scopes": (scope,)}, "Unknown scope")
        for scope in (
            "admin",
            "agents",
            "agents:",
            "agents:fly",
            "agents::run",
            "agents:ops:fly",
            "sessions:run",
            ":run",
        )
    ),
    ({"scopes": ("approvals:read", "approvals:decide")}, "Unknown scope: approvals:decide"),
    ({"scopes": ("",)}, "Unknown scope"),
    ({"scopes": ("finance:a b",)}, "Unknown scope"),
    ({"scopes": ("finance:\n",)}, "Unknown scope"),
    *(
        ({field: name}, "A name must have 1 to 255 printable characters")
        for field in ("user_id", "name")
        for name in ("", "a" * 256, "a\0b", "a\nb", "a\tb", "\x1b[2J", "\udcff")
    ),
]


@pytest.mark.parametrize(("requested", "words"), WRONG, ids=str)
async def test_a_token_for_what_there_is_not_is_refused(
    sqlite_file: str, requested: dict[str, Any], words: str
) -> None:
    async with at_desk(sqlite_file) as desk:
        with pytest.raises(InvalidInput, match=re.escape(words)):
            desk.make(**requested)
        assert (desk.rows(), desk.rows("audit")) == ([], [])


@pytest.mark.parametrize(
    "named", ["", "nothing", "AAAAAAAA", f"unp_AAAAAAAA.{'canary' * 7}x", "\udcff", "é"], ids=ascii
)
async def test_a_token_that_there_is_not_cannot_be_revoked_or_replaced(desk: Desk, named: str) -> None:
    now = desk.clock.now()
    for action in (
        lambda connection: revoke_token(connection, named, OPERATOR, now),
        lambda connection: replace_token(connection, named, OPERATOR, now, timedelta()),
    ):
        with pytest.raises(NotFound) as caught:
            desk.act(action)
        assert caught.value.message == "There is no token with that id"


async def test_the_first_token_is_an_administrators_and_there_is_no_second(desk: Desk) -> None:
    text = desk.act(lambda connection: create_first_token(connection, desk.clock.now()))
    principal = await desk.authenticator.identify(text)
    assert (principal.organization_id, principal.subject, principal.scopes) == (1, "admin", frozenset({ADMIN}))
    assert desk.act(lambda connection: create_first_token(connection, desk.clock.now())) is None
    desk.act(lambda connection: revoke_token(connection, principal.token_id or "", OPERATOR, desk.clock.now()))
    assert desk.act(lambda connection: create_first_token(connection, desk.clock.now())) is None, "not even then"


async def test_of_nodes_that_start_at_once_one_makes_the_first_token(postgres_url: str) -> None:
    nodes = 8
    together = Barrier(nodes)
    async with at_desk(postgres_url) as desk:

        def start(_: int) -> str | None:
            together.wait(60)
            made: str | None = desk.act(lambda connection: create_first_token(connection, desk.clock.now()))
            return made

        with ThreadPoolExecutor(nodes) as pool:
            made = [text for text in pool.map(start, range(nodes)) if text is not None]
        assert len(made) == len(desk.rows()) == 1
        await desk.authenticator.identify(made[0])


async def test_a_server_that_asks_nobody_takes_everybody_for_the_first_organization(desk: Desk) -> None:
    authenticator = Authenticator(Database(desk.url, 2), desk.clock, None, is_open=True)
    for authorization in (None, "Bearer garbage", "Basic x"):
        assert await authenticator.identify(authorization) == Principal(1)
