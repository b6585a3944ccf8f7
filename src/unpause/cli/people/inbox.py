"""``unpause inbox`` and ``unpause show``: what waits for people."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from unpause.cli.numbers import Limit
from unpause.cli.people.client import OPENED
from unpause.cli.people.ids import find_request
from unpause.cli.people.options import DEFAULTS, AgentFilter, Common, RequestId
from unpause.cli.people.printing import Form
from unpause.cli.people.requests import call_text, inbox_listing, request_lines
from unpause.cli.people.tables import plain_line

if TYPE_CHECKING:
    from unpause.cli.people.client import Client
    from unpause.cli.people.errors import JsonObject
    from unpause.cli.people.printing import Printer
    from unpause.cli.people.sse import Frame

# What a watch keeps; a terminal shows fewer.
_WATCHED: Final = 1000


def inbox(
    *,
    watch: Annotated[bool, Parameter(negative=(), show_default=False, help="Go on, and show what changes.")] = False,
    everybody: Annotated[
        bool,
        Parameter(name="--all", negative=(), show_default=False, help="Also what others decide."),
    ] = False,
    agent: AgentFilter = None,
    limit: Limit = 200,
    common: Common = DEFAULTS,
) -> None:
    """List what waits for your decision, oldest first."""
    query = {"who": "all" if everybody else None, "agent_id": agent}
    printer = common.printer()
    with common.connect() as client:
        if watch:
            _Watch(client, printer, query).run()
        else:
            printer.list(inbox_listing(), list(client.items("/inbox", limit, **query)))


def show(request: RequestId, /, *, common: Common = DEFAULTS) -> None:
    """Show a request: its arguments, what may be set, and what led to it."""
    printer = common.printer()
    with common.connect() as client:
        item = client.get(f"/inbox/{find_request(client, request)['requirement_id']}")
    printer.object(item, item["requirement_id"], *request_lines(item))


class _Watch:
    """The open requests, kept up to date by the server's events."""

    def __init__(self, client: Client, printer: Printer, query: dict[str, str | None]) -> None:
        self._client = client
        self._printer = printer
        self._query = query
        self._items: dict[str, JsonObject] = {}
        # After a reconnect the server sends some events again.
        self._seen: deque[str] = deque(maxlen=_WATCHED)
        self._paints = printer.is_terminal and printer.form is Form.TEXT

    def run(self) -> None:
        """Show the requests until the process is interrupted."""
        for frame in self._client.stream("/inbox/events", math.inf):
            if frame is OPENED:
                self._read_all(has_resumed=bool(self._seen))
            elif frame.name == "inbox.changed":
                self._read_all(has_resumed=False)
            elif frame.id is not None and frame.id not in self._seen:
                self._seen.append(frame.id)
                self._take(frame)
            if self._paints:
                # A keep-alive, too: ages have changed.
                self._paint()

    def _take(self, frame: Frame) -> None:
        match frame.name:
            case "requirement.added":
                if self._is_wanted(frame.data):
                    self._put(frame.data)
            case "requirement.updated":
                # A vote of this user, or for what others decide: the list says which.
                self._read_all(has_resumed=False)
            case _:
                self._remove(frame.name, frame.data)

    def _read_all(self, *, has_resumed: bool) -> None:
        """Read the whole list. What is missing in it is gone, or its event comes where the stream ``has_resumed``."""
        read = {item["requirement_id"]: item for item in self._client.items("/inbox", _WATCHED, **self._query)}
        if not has_resumed:
            for gone in [item for name, item in self._items.items() if name not in read]:
                self._remove("requirement.gone", gone)
        for item in read.values():
            self._put(item)

    def _is_wanted(self, item: JsonObject) -> bool:
        """Whether it belongs to the list: the stream brings all that the user sees."""
        agent = self._query["agent_id"]
        return (self._query["who"] == "all" or bool(item["may_decide"])) and agent in {None, item["agent_id"]}

    def _put(self, item: JsonObject) -> None:
        known = self._items.get(item["requirement_id"])
        self._items[item["requirement_id"]] = item
        if known is None:
            self._tell("requirement.added", item)
        elif known["votes"] != item["votes"]:
            self._tell("requirement.updated", item)

    def _remove(self, event: str, item: JsonObject) -> None:
        if self._items.pop(item["requirement_id"], None) is not None:
            self._tell(event, item)

    def _tell(self, event: str, item: JsonObject) -> None:
        """Print what changed, where no table shows it."""
        match self._printer.form:
            case Form.JSON:
                self._printer.json({"event": event, "requirement": item}, indent=None)
            case Form.IDS:
                if event == "requirement.added":
                    self._printer.ids(item["requirement_id"])
            case _ if not self._paints:
                what = event.removeprefix("requirement.")
                self._printer.text(plain_line([what, item["requirement_id"], item["agent_id"], call_text(item)]))

    def _paint(self) -> None:
        items = sorted(self._items.values(), key=lambda item: item["created_at"])
        heading = f"{self._client.url}  {len(items)} open  (Ctrl-C ends)"
        self._printer.repaint(inbox_listing(), items, heading)
