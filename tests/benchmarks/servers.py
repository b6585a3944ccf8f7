"""Server processes to measure: ours, and bare apps, each under the options that ``unpause serve`` gives uvicorn.

``python -m tests.benchmarks.servers VARIANT FOLDER [CREATE_WRITES CREATE_READS CONTINUE_WRITES CONTINUE_READS]``
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from tests.benchmarks.bare import OrdinaryRows, PlainRows, Work, create_bare_app
from tests.support.scripted_driver import ScriptedDriver
from unpause.agents.config import Agents
from unpause.cli import serve
from unpause.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parents[2]
_READY = "Unpause is ready on http://127.0.0.1:"
_STOP_SECONDS = 10


class Variant(StrEnum):
    """What is measured."""

    SCRIPTED = "unpause, scripted driver"
    PYDANTIC_AI = "unpause, Pydantic AI driver"
    BARE = "bare FastAPI, async SQLAlchemy"
    BARE_WRITES = "the same without the reads"
    PLAIN = "bare FastAPI, plain sqlite3 in a thread"

    @property
    def agent_id(self) -> str | None:
        """The agent that it serves; None for a bare app."""
        return {Variant.SCRIPTED: "scripted", Variant.PYDANTIC_AI: "instant"}.get(self)


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that is up."""

    variant: Variant
    process_id: int
    port: int

    def resident_megabytes(self) -> float:
        """Return the process's resident memory now, in units of 10^6 bytes."""
        lines = Path(f"/proc/{self.process_id}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS:"))

    def processor_seconds(self) -> float:
        """Return the processor time that the process used so far, in user and system mode together."""
        fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving_process(variant: Variant, folder: Path, creating: Work, continuing: Work) -> Iterator[Server]:
    """Run a server with its database file in ``folder`` for the length of the block; the log goes to a file there."""
    folder.mkdir()
    work = (creating.writes, creating.reads, continuing.writes, continuing.reads)
    command = [sys.executable, "-m", __spec__.name, variant.name, str(folder), *map(str, work)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = process.stdout.readline() if process.stdout is not None else ""
            if not line.startswith(_READY):
                detail = f"{variant.name} did not start: {line!r} {(folder / 'log').read_text()[-2000:]}"
                raise RuntimeError(detail)
            yield Server(variant, process.pid, int(line.removeprefix(_READY)))
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _main(variant: Variant, folder: Path, creating: Work, continuing: Work) -> None:
    # The whole command with its options for uvicorn, and only what it serves put in the place of the usual.
    url = f"sqlite+aiosqlite:///{folder / 'unpause.db'}"
    arguments = ["--dev", "--agents", "tests.benchmarks.instant_agent", "--port", "0", "--database-url", url]
    with ExitStack() as replaced:
        if variant is not Variant.PYDANTIC_AI:
            replaced.enter_context(
                mock.patch.object(serve, "started_agents", return_value=nullcontext(Agents([ScriptedDriver()])))
            )
        if variant.agent_id is None:
            file = folder / "bare.db"
            rows = PlainRows(file) if variant is Variant.PLAIN else OrdinaryRows(file)
            app = create_bare_app(rows, creating, continuing)
            replaced.enter_context(mock.patch.object(serve, "create_app", return_value=app))
        main(["serve", *arguments])


if __name__ == "__main__":
    _given = [int(count) for count in sys.argv[3:7]]
    _main(Variant[sys.argv[1]], Path(sys.argv[2]), Work(*_given[:2]), Work(*_given[2:]))
