"""``unpause run`` and ``unpause runs follow``: start a run, and print its events until it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import quote

from cyclopts import Parameter

from unpause.cli.exits import CommandFailed, Exit, tell
from unpause.cli.people.escapes import harmless, harmless_json
from unpause.cli.people.input import read_words
from unpause.cli.people.options import DEFAULTS, Common
from unpause.cli.people.printing import Form
from unpause.cli.people.requests import call_text

if TYPE_CHECKING:
    from unpause.cli.people.client import Client
    from unpause.cli.people.errors import JsonObject
    from unpause.cli.people.printing import Printer
    from unpause.cli.people.sse import Frame

# How long a server may be away until a follow gives up.
_PATIENCE_SECONDS: Final = 600.0
_LONGEST_RESULT: Final = 2000


def run(
    agent: Annotated[str, Parameter(help="Id of the agent.")],
    prompt: Annotated[str, Parameter(help="What it is to do; @- for standard input.")],
    /,
    *,
    follow_events: Annotated[
        bool,
        Parameter(name="--follow", negative=(), show_default=False, help="Print its events until it ends."),
    ] = False,
    session: Annotated[str | None, Parameter(metavar="ID", help="Session to go on with; by default a new one.")] = None,
    common: Common = DEFAULTS,
) -> None:
    """Start a run and print its id, or follow it."""
    form = {"message": read_words(prompt), "background": "true", "stream": "false"}
    if session is not None:
        form["session_id"] = session
    printer = common.printer()
    with common.connect() as client:
        started = client.post_once(f"/agents/{quote(agent, safe='')}/runs", data=form)
        if follow_events:
            follow(client, {"agent_id": agent, **started}, printer)
        else:
            name = started["run_id"]
            printer.object(started, name, f"Run {name} is {started['status']}: unpause runs follow {name}")


def follow(client: Client, started: JsonObject, printer: Printer) -> None:
    """Print the run's events until it ends; raise CommandFailed unless it ends well."""
    events = f"/agents/{quote(started['agent_id'], safe='')}/runs/{quote(started['run_id'], safe='')}/events"
    follower = _Follower(printer)
    try:
        for frame in client.stream(events, _PATIENCE_SECONDS, follow=True):
            follower.take(frame)
            if frame.name in _ENDS:
                break
    except KeyboardInterrupt:
        tell(f"\nThe run goes on: unpause runs follow {started['run_id']}\n")
        raise
    follower.finish(started["run_id"])


_ENDS: Final = frozenset({"RunCompleted", "RunError", "RunCancelled"})


class _Follower:
    """Prints events: as text, as a line of JSON each, or at the end the output alone."""

    def __init__(self, printer: Printer) -> None:
        self._printer = printer
        self._is_in_line = False
        self._last: Frame | None = None

    def take(self, frame: Frame) -> None:
        """Print an event."""
        if not frame.name or "event" not in frame.data:
            return
        self._last = frame
        if self._printer.form is Form.JSON:
            self._printer.json(frame.data, indent=None)
        elif self._printer.form is Form.TEXT:
            self._print(frame.name, frame.data)

    def finish(self, run_id: str) -> None:
        """Raise CommandFailed for a run that did not end well."""
        self._end_line()
        data = {} if self._last is None else self._last.data
        match self._last and self._last.name:
            case "RunError":
                raise CommandFailed(f"Run {run_id} ended in ERROR: {data.get('content', '')}", Exit.RUN_FAILED)
            case "RunCancelled":
                raise CommandFailed(f"Run {run_id} was cancelled")
            case "RunCompleted" if self._printer.form is Form.IDS:
                self._printer.ids(run_id)

    def _print(self, name: str, data: JsonObject) -> None:
        match name:
            case "RunContent":
                self._piece(data["content"])
            case "ToolCallStarted":
                self._line(f"> {harmless(call_text(_call(data['tool'])))}")
            case "ToolCallCompleted" if data["tool"].get("result") is not None:
                self._line(f"< {harmless(_cut(data['tool']['result']))}")
            case "ToolCallError":
                self._line(f"! {harmless(_call(data['tool'])['tool_name'])}: {harmless(str(data.get('error') or ''))}")
            case "RunPaused":
                self._line(*_waiting(data))
            case "RunContinued":
                self._line("Continued.")
            case "PauseReminder":
                self._line(f"Still waits; expires at {data.get('expires_at')}.")

    def _piece(self, text: str) -> None:
        if text:
            self._printer.piece(text)
            self._is_in_line = not text.endswith("\n")

    def _line(self, *texts: str) -> None:
        self._end_line()
        self._printer.text(*texts)

    def _end_line(self) -> None:
        if self._is_in_line:
            self._printer.text("")
            self._is_in_line = False


def _call(tool: JsonObject) -> JsonObject:
    return {"tool_name": tool.get("tool_name") or "?", "arguments": tool.get("tool_args") or {}}


def _waiting(data: JsonObject) -> list[str]:
    """Return a line for each request that the run waits for."""
    requests = [item for item in data.get("requirements") or () if _is_open(item)]
    if not requests:
        return ["Paused."]
    return [
        f"Waits for {harmless(call_text(_call(item['tool_execution'])))}: unpause show {item['id']}"
        for item in requests
    ]


def _is_open(item: JsonObject) -> bool:
    return item.get("confirmation") is None and item.get("user_input") is None


def _cut(result: Any) -> str:  # noqa: ANN401 - a tool's result may be any JSON
    text = result if isinstance(result, str) else harmless_json(result)
    return text if len(text) <= _LONGEST_RESULT else f"{text[:_LONGEST_RESULT]}…"
