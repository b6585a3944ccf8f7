"""`unpause audit export`: which entries, in which form, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tests.cli.here import Here
from tests.support.databases import NOW
from tests.support.full import IS_FULL
from tests.support.memory import peak_of
from unpause.services.audit_chain import seal_batch
from unpause.store.audit_chain import add_head
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import audit, organizations

URL = "sqlite:///unpause.db"
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1"]


def add(*entries: dict[str, Any]) -> None:
    usual = {"organization_id": 1, "at": NOW, "action": "run.continued", "via": "agno"}
    with plain_engine(URL).begin() as connection:
        for entry in entries:
            connection.execute(insert(audit), {**usual, **entry})


@pytest.fixture
def trail(here: Here) -> Here:
    """Return a folder with a database and a trail in it."""
    here.run("db", "upgrade")
    return here


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_entries_are_chosen_by_actor_time_and_organization_oldest_first(trail: Here) -> None:
    with plain_engine(URL).begin() as connection:
        connection.execute(insert(organizations), {"id": 2, "name": "other", "created_at": NOW})
    for each in range(4):
        add({"actor": "ada" if each % 2 else "a%a", "at": NOW + timedelta(days=each), "details": {"n": each}})
    add({"organization_id": 2, "actor": "ada", "note": "other"})
    with plain_engine(URL).begin() as connection:
        add_head(connection, 1)
        seal_batch(connection, 1)

    def found(*arguments: str) -> list[Any]:
        return [(each["details"] or {}).get("n") for each in lines(trail.run("audit", "export", *arguments).stdout)]

    assert found() == [0, 1, 2, 3, None]
    assert found("--org", "1") == [0, 1, 2, 3]
    assert found("--actor", "ada", "--org", "1") == [1, 3]
    assert found("--actor", "a%a") == [0, 2]
    assert found("--actor", "nobody") == []
    # The first is included, the last is not.
    assert found("--since", "2026-01-02T12:30:00Z", "--until", "2026-01-03T12:30:00Z") == [1]
    first = lines(trail.run("audit", "export").stdout)[0]
    assert (first["number"], len(first["hash"]), first["at"]) == (1, 64, NOW.isoformat())


def test_csv_is_quoted_and_no_cell_is_a_formula(trail: Here) -> None:
    notes = [*FORMULAS, 'a "quoted", text\nof two lines', "é 😀", None]
    add(*({"actor": "=cmd()", "note": note, "details": {"a": [1, "x,y"]}} for note in notes))
    file = trail.folder / "audit.csv"
    assert trail.run("audit", "export", "--format", "csv", "--output", "audit.csv").stdout == ""
    text = file.read_bytes().decode()
    assert file.stat().st_mode & 0o777 == 0o600
    assert text.count("\r\n") == 1 + len(notes)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["note"] for row in rows] == [*(f"'{each}" for each in FORMULAS), *notes[len(FORMULAS) : -1], ""]
    assert {row["actor"] for row in rows} == {"'=cmd()"}
    assert json.loads(rows[0]["details"]) == {"a": [1, "x,y"]}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--since", "yesterday"], "'yesterday' is not a time"),
        (["--until", "2026-13-01"], "'2026-13-01' is not a time"),
        (["--since", "0001-01-01T00:00:00+14:00"], "is not a time"),
        (["--until", "9999-12-31T23:59:59-05:00"], "is not a time"),
        (["--actor", "\udcff"], "half of a surrogate pair"),
        (["--since", "1d", "--until", "2d"], "--since 1d is not before --until 2d"),
        (["--org", "9"], "There is no organization 9"),
        (["--format", "xml"], "xml"),
        (["--output", "unpause.db"], "it exists already"),
        (["--output", "nowhere/file"], "No such file or directory"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_no_file(trail: Here, arguments: list[str], reason: str) -> None:
    before = {file.name for file in trail.folder.iterdir()}
    done = trail.run("audit", "export", *arguments, *(["--output", "new"] if "--output" not in arguments else []))
    assert done.returncode == 2
    assert reason in done.stderr
    assert {file.name for file in trail.folder.iterdir()} == before


def test_an_entry_that_cannot_be_read_is_named_and_one_of_a_newer_version_is_exported(trail: Here) -> None:
    add({"action": "newer.action"})
    assert lines(trail.run("audit", "export").stdout)[0]["action"] == "newer.action"
    with plain_engine(URL).begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER audit_no_update")
        connection.exec_driver_sql("UPDATE audit SET details = 'garbage'")
    done = trail.run("audit", "export")
    assert (done.returncode, "The entry with id 1 was changed" in done.stderr) == (2, True)


@pytest.mark.timeout(900)
def test_a_long_trail_is_written_in_little_memory(trail: Here, tmp_path: Path) -> None:
    count = 100_000 if IS_FULL else 2_000
    usual = {"organization_id": 1, "at": NOW, "action": "run.continued", "via": "agno", "note": "x" * 200}
    with plain_engine(URL).begin() as connection:
        for _ in range(count // 1000):
            connection.execute(insert(audit), [usual] * 1000)
    done, peak = peak_of(lambda: trail.run("audit", "export", "--format", "csv", "--output", "all.csv"))
    assert done.returncode == 0
    assert (tmp_path / "all.csv").read_bytes().count(b"\r\n") == count + 1
    assert peak < 8_000_000
