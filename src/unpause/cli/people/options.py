"""The options that all commands for people have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from unpause.cli.people.client import Client, connect
from unpause.cli.people.printing import Form, Printer

RequestId = Annotated[
    str, Parameter(help="Id of the request, or its beginning; also of a run that waits for one answer alone.")
]
RunId = Annotated[str, Parameter(help="Id of the run, or its beginning.")]
AgentFilter = Annotated[str | None, Parameter(metavar="AGENT", help="Only those of this agent.")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Output:
    """What is printed."""

    json: Annotated[bool, Parameter(negative=(), show_default=False, help="Print JSON.")] = False
    quiet: Annotated[
        bool, Parameter(name=["--quiet", "-q"], negative=(), show_default=False, help="Print ids alone.")
    ] = False

    def printer(self) -> Printer:
        """Return what prints the command's result."""
        return Printer(Form.JSON if self.json else Form.IDS if self.quiet else Form.TEXT)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common(Output):
    """Which server, and what is printed."""

    url: Annotated[
        str | None,
        Parameter(metavar="URL", help="The server; by default UNPAUSE_URL, or that of the last login."),
    ] = None

    def connect(self) -> Client:
        """Return the client of the server."""
        return connect(self.url, os.environ)


DEFAULTS = Common()
PRINTED = Output()
