"""Whatever a search combines, its pages have just the runs that fit, each once and in order, from whichever index."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tests.support.databases import NOW, new_run
from unpause.domain.principal import Visibility
from unpause.domain.run_search import RunSearch
from unpause.domain.runs import RunStatus
from unpause.store import run_search
from unpause.store.engine.database import Database
from unpause.store.tables import runs

_RUNS = 150
_SEARCHES = 150


def _fill(connection: Connection) -> list[Any]:
    random = Random(7)  # noqa: S311 - no secret
    for number in range(_RUNS):
        new_run(
            connection,
            random.choice([RunStatus.COMPLETED, *RunStatus]),
            session_id=f"session-{number % 6}",
            agent_id=f"agent-{random.randrange(4)}",
            user_id=random.choice(["ada", "bob", None]),
            prompt=random.choice(["hello", "Hello 7", "100%"]),
            # Not quite in the order of the ids: as with several clocks.
            created_at=NOW + timedelta(seconds=number + random.randrange(4)),
        )
    new_run(connection, organization_id=1, session_id="session-0", agent_id="agent-0", prompt="hello")
    return list(connection.execute(select(runs).order_by(runs.c.id.desc())))


def _any_search(random: Random, row: Any) -> dict[str, Any]:  # noqa: ANN401 - a row of runs
    earlier, later = (timedelta(seconds=random.choice([0, 5, 60, 1000])) for _ in range(2))
    possible = {
        "statuses": frozenset(random.sample(list(RunStatus), random.randint(1, 3))),
        "agent_id": random.choice([row.agent_id, "nobody"]),
        "user_id": random.choice([row.user_id or "ada", "nobody"]),
        "session_id": random.choice([row.session_id, "nowhere"]),
        "since": row.created_at - earlier,
        "until": row.created_at + later,
        "text": random.choice([row.run_id, row.run_id.upper(), row.run_id[:2], str(row.id), "hello", "0%", "nothing"]),
    }
    return {name: value for name, value in possible.items() if random.random() < 0.3}


def _fits(row: Any, search: dict[str, Any], visibility: Visibility, agents: frozenset[str] | None) -> bool:  # noqa: ANN401 - a row of runs
    text = search.get("text", "").lower()
    return (
        visibility.user_id in {None, row.user_id}
        and (agents is None or row.agent_id in agents)
        and ("statuses" not in search or row.status in search["statuses"])
        and all(search.get(name, getattr(row, name)) == getattr(row, name) for name in ("agent_id", "session_id"))
        and ("user_id" not in search or row.user_id == search["user_id"])
        and search.get("since", row.created_at) <= row.created_at
        and ("until" not in search or row.created_at < search["until"])
        and (text in row.prompt.lower() or row.run_id.startswith(text) or (text.isdecimal() and int(text) == row.id))
    )


@pytest.mark.parametrize("examined", [10, 40, 10_000])
async def test_the_pages_of_any_search_have_just_the_runs_that_fit(
    database_url: str, monkeypatch: pytest.MonkeyPatch, examined: int
) -> None:
    monkeypatch.setattr(run_search, "_MAX_EXAMINED", examined)
    random = Random(examined)  # noqa: S311 - no secret

    def compare(connection: Connection, rows: list[Any]) -> None:
        row = random.choice(rows)
        search, limit = _any_search(random, row), random.choice([6, 200])
        visibility = Visibility(1, row.user_id if random.random() < 0.2 else None)
        agents = random.choice([None, None, frozenset({row.agent_id, "nobody"}), frozenset()])
        found: list[int] = []
        before = None
        while True:
            page = run_search.search_runs(
                connection, visibility, agents, RunSearch(limit=limit, before=before, **search)
            )
            found += [run.id for run in page.runs]
            assert len(page.runs) <= limit
            if page.next is None:
                break
            assert before is None or page.next < before
            before = page.next
        expected = [each.id for each in rows if _fits(each, search, visibility, agents)]
        assert found == expected, (search, visibility, agents)

    async with Database(database_url).opened() as database:
        rows = await database.write(_fill)
        for _ in range(_SEARCHES):
            await database.read(lambda connection: compare(connection, rows))
