"""Two organizations in one database, made once and copied for each test: one to be left alone, one to try things."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final, TypeAlias

from sqlalchemy import make_url

from tests.access.other_organization import GATE, OURS, SESSIONS, SHARED_USER, Belongings, delivered, furnish
from tests.access.requests_of_strangers import Route, read_routes
from tests.access.watch import Watch, nobody_outside
from tests.support.caller import body_of, confirming, path_of
from tests.support.databases import PostgresServer, copy_database, sqlite_url
from tests.support.gates import Gates
from tests.support.published import read_document
from tests.support.server import Server, served
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES

# A folder to serve in, and a database in which both organizations are.
Copies: TypeAlias = Callable[[], AbstractContextManager[tuple[Path, str]]]

_DECIDING: Final = ("approvals:write", "approvals:delete")
# What the strangers can do, by name. The one of them with a user of the others' name says so by token and by JWT.
PEOPLE: Final[Mapping[str, tuple[str | None, tuple[str, ...]]]] = {
    "boss": ("our-boss", (ADMIN,)),
    "anna": (SHARED_USER, DEFAULT_SCOPES),
    "decider": ("our-decider", (*DEFAULT_SCOPES, *_DECIDING)),
    "service": (None, (*DEFAULT_SCOPES, *_DECIDING)),
}
BY_JWT: Final = "anna by JWT"


@dataclass(frozen=True)
class Furnished:
    """Where both organizations are: what the one has, the tokens of the other's people, and copies of it all.

    ``routes`` are those of the server.
    """

    theirs: Belongings
    tokens: Mapping[str, str]
    routes: Mapping[str, Route]
    copies: Copies
    # What the owner sees of a copy that nothing was done to, once somebody has looked.
    view: dict[str, str] = field(default_factory=dict)


@asynccontextmanager
async def visited(furnished: Furnished, folder: Path, database_url: str) -> AsyncIterator[tuple[Server, Watch]]:
    """Serve a copy, in which a run of theirs is executed all the time; yield the server and who watches."""
    gates, sent = Gates(GATE), list[bytes]()
    (folder / "checkouts" / "1").mkdir(parents=True)
    with nobody_outside(sent):
        async with served(
            folder, tokens={}, database_url=database_url, gates=gates, workspace_root=folder / "checkouts"
        ) as server:
            held, boss = furnished.theirs.held, server.user(furnished.theirs.admin)
            answers = json.dumps(confirming(held))
            body_of(await boss.form(f"{path_of(held)}/continue", tools=answers, background="true"), 202)
            await gates.reached(GATE)
            # That it was decided is a message, too.
            await delivered(server)
            try:
                yield server, await Watch.begin(server, sent)
            finally:
                gates.open(GATE)


async def _furnish(folder: Path, database_url: str) -> tuple[Belongings, dict[str, str], dict[str, Route]]:
    with nobody_outside([]):
        async with served(folder, tokens={}, database_url=database_url) as server:
            await server.add_organization(OURS, "ours")
            theirs = await furnish(server)
            people = {name: await server.add_user(OURS, user, *scopes) for name, (user, scopes) in PEOPLE.items()}
            people[BY_JWT] = server.by_jwt(
                SHARED_USER, *DEFAULT_SCOPES, *_DECIDING, organization=OURS, session_id=SESSIONS[0]
            )
            tokens = {name: person.authorization for name, person in people.items()}
            return theirs, tokens, read_routes(read_document())


def on_sqlite(folder: Path, empty: Path) -> Furnished:
    """Return both organizations in a SQLite file; ``empty`` is one with the schema alone."""
    file, numbers = folder / "unpause.db", count(1)
    copy_database(empty, file)
    made = asyncio.run(_furnish(folder, sqlite_url(file)))

    @contextmanager
    def copies() -> Iterator[tuple[Path, str]]:
        place = folder / str(next(numbers))
        place.mkdir()
        copy_database(file, place / "unpause.db")
        yield place, sqlite_url(place / "unpause.db")

    return Furnished(*made, copies)


@contextmanager
def on_postgres(folder: Path, postgres: PostgresServer) -> Iterator[Furnished]:
    """Yield both organizations in a PostgreSQL database."""
    numbers = count(1)
    with postgres.migrated_database() as url:
        made = asyncio.run(_furnish(folder, url))
        name = make_url(url).database or ""

        @contextmanager
        def copies() -> Iterator[tuple[Path, str]]:
            place = folder / str(next(numbers))
            place.mkdir()
            with postgres.database(name) as copy:
                yield place, copy

        yield Furnished(*made, copies)
