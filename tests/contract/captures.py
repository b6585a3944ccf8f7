"""The captured exchanges with AgentOS: what was asked, how to ask it of our server, what came back.

Those of 2.5.6 have numbers (`018`, and `live` for one that ran beside others), those of `/resume`, which only 3.1.10
has, an `r` before theirs (`r03`). `captures.json` holds them without the ids and times of that server: `{run:018}` is
the run and `{approval:099}` the approval that the answer to that capture named, `{database}` the name of the
database, and an item of `tools` is taken from our own answer to an earlier capture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter

JsonObject: TypeAlias = dict[str, Any]
Shape: TypeAlias = Mapping[str, str]

_RUN = re.compile(r"\{run:(\w+)\}")


@dataclass(frozen=True, slots=True)
class Capture:
    """One captured request with its answer.

    `tools` says how the field of that name was made: item `at` of the `tools` in the answer to capture `of`,
    of it `only` the keys named (all, if none are), with what is in `set` changed. The answer is one of `run`
    (a run), `events` (of a stream; a row of RunContent counts once), `items` (a list of runs, or just one where it is
    `single`), `error` (a refusal), `text` (not JSON) and `body` (anything else); none of them for an empty answer.
    """

    file: str
    scenario: str
    method: str
    path: str
    status: int
    content_type: str
    encoding: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    form: tuple[tuple[str, str], ...] = ()
    tools: tuple[JsonObject, ...] | None = None
    files: tuple[JsonObject, ...] = ()
    json: JsonObject | None = None
    run: JsonObject | None = None
    events: tuple[JsonObject, ...] | None = None
    items: tuple[JsonObject, ...] | None = None
    single: bool = False
    error: JsonObject | None = None
    body: Any = None
    text: str | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """What the file's name begins with; with an `r` before it for those of `/resume`."""
        folder, _, name = self.file.rpartition("/")
        return ("r" if folder else "") + name.partition("_")[0]

    @property
    def run_of(self) -> str | None:
        """The capture whose answer named the run in the path, or None."""
        found = _RUN.search(self.path)
        return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Captures:
    """All captures by number, and the shapes (key to JSON type) that they name."""

    by_number: Mapping[str, Capture]
    shapes: Mapping[str, Shape]

    def scenarios(self, leave_out: Iterable[str] = ()) -> dict[str, list[Capture]]:
        """Return the captures that belong together, in their order, without the files to leave out."""
        left_out = set(leave_out)
        found: dict[str, list[Capture]] = {}
        for capture in self.by_number.values():
            if capture.file not in left_out:
                found.setdefault(capture.scenario, []).append(capture)
        return found


def load_captures() -> Captures:
    """Read `captures.json`, which stands beside this file."""
    data = json.loads(Path(__file__).with_name("captures.json").read_text(encoding="utf-8"))
    captures = TypeAdapter(list[Capture]).validate_python(data["captures"])
    return Captures({capture.number: capture for capture in captures}, data["shapes"])
