"""``unpause runs``: list, show, cancel, pause and resume runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from unpause.cli.exits import CommandFailed, Exit
from unpause.cli.numbers import Limit
from unpause.cli.people.errors import decision_text
from unpause.cli.people.escapes import harmless, harmless_json
from unpause.cli.people.follow import follow
from unpause.cli.people.ids import find_run, find_run_id
from unpause.cli.people.layout import block, fields
from unpause.cli.people.options import DEFAULTS, AgentFilter, Common, RunId
from unpause.cli.people.printing import Listing
from unpause.cli.people.requests import call_text
from unpause.cli.people.tables import Column
from unpause.cli.people.times import age, moment_before, now

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.cli.people.errors import JsonObject

app = App(name="runs")
# Those of the operator, who has the database; by name, since they load what a client has no need of.
app.command(
    "unpause.cli.retention:purge",
    name="purge",
    help="Delete runs that ended long ago, in the database itself.\n\n"
    "Runs of a session in which another one has not ended stay: it goes on with them.",
)
app.command("unpause.cli.retention:export", name="export", help="Write runs as JSON lines, from the database itself.")

_STATUSES = ("pending", "running", "paused", "completed", "cancelled", "error")
_NAMED = ", ".join(_STATUSES)


@app.default
def list_runs(
    *,
    status: Annotated[
        list[str] | None,
        Parameter(negative=(), metavar="STATUS", help=f"Only those of this status: {_NAMED}. May be repeated."),
    ] = None,
    since: Annotated[str | None, Parameter(metavar="TIME", help="Created since then: 1d, or 2026-10-01.")] = None,
    agent: AgentFilter = None,
    search: Annotated[str | None, Parameter(metavar="TEXT", help="Text in the prompt.")] = None,
    limit: Limit = 50,
    common: Common = DEFAULTS,
) -> None:
    """List runs, newest first."""
    query = {
        "status": [_status(one) for one in status] if status else None,
        "since": moment_before(since, now()),
        "agent_id": agent,
        "search": search,
    }
    with common.connect() as client:
        items = list(client.items("/runs", limit, **query))
    common.printer().list(_listing(), items)


@app.command
def show(run: RunId, /, *, common: Common = DEFAULTS) -> None:
    """Show a run: its prompt, what it waits for, its output or error."""
    with common.connect() as client:
        item = client.get(f"/runs/{find_run_id(client, run)}")
    common.printer().object(item, item["run_id"], *_lines(item))


@app.command(name="follow")
def follow_run(run: RunId, /, *, common: Common = DEFAULTS) -> None:
    """Print a run's events from its start, and go on until it ends, also through pauses and lost connections."""
    with common.connect() as client:
        follow(client, find_run(client, run), common.printer())


@app.command
def cancel(run: RunId, /, *, common: Common = DEFAULTS) -> None:
    """Cancel a run."""
    _change(run, "cancel", common)


@app.command
def pause(run: RunId, /, *, common: Common = DEFAULTS) -> None:
    """Pause a run before its next step."""
    _change(run, "pause", common)


@app.command
def resume(
    run: RunId,
    words: Annotated[str | None, Parameter(help="Words for the model; they reject the calls that wait.")] = None,
    /,
    *,
    common: Common = DEFAULTS,
) -> None:
    """Resume a run that was paused on request, or send words to one that waits."""
    _change(run, "resume", common, {} if words is None else {"prompt": words})


def _change(text: str, action: str, common: Common, body: JsonObject | None = None) -> None:
    with common.connect() as client:
        run_id = find_run_id(client, text)
        state = client.post(f"/runs/{run_id}/{action}", body)
    common.printer().object(state, run_id, f"Run {run_id} is {state['status']}")


def _status(text: str) -> str:
    if text.lower() not in _STATUSES:
        raise CommandFailed(f"{text!r} is not a status: {_NAMED}", Exit.USAGE)
    return text.upper()


def _listing() -> Listing:
    at = now()

    def cells(item: JsonObject) -> list[str]:
        status = f"{item['status']} {age(item['waiting_since'], at)}" if item.get("waiting_since") else item["status"]
        return [age(item["created_at"], at), status, item["agent_id"], item.get("user_id") or "-", _about(item)]

    columns = (*map(Column, ("AGE", "STATUS", "AGENT", "STARTED BY")), Column("PROMPT", is_flexible=True))
    return Listing("run_id", columns, cells, "There are no such runs.")


def _about(item: JsonObject) -> str:
    error = item.get("error")
    return f"{item['prompt']} — {_error_text(error)}" if error else str(item["prompt"])


def _lines(item: JsonObject) -> Iterator[str]:
    """Yield the lines that show one run."""
    at = now()
    yield f"Run {item['run_id']}"
    yield from fields(
        ("status", item["status"]),
        ("agent", item["agent_id"]),
        ("session", item["session_id"]),
        ("started by", item.get("user_id")),
        ("created", f"{item['created_at']} ({age(item['created_at'], at)})"),
        ("ended", item.get("ended_at")),
        ("url", item.get("url")),
    )
    yield from block("Prompt", item.get("prompt"))
    for requirement in item.get("requirements") or ():
        yield _requirement_line(requirement)
    yield from block("Output", _text(item.get("output")))
    error = item.get("error")
    yield from block("Error", _error_text(error))
    if isinstance(error, dict):
        yield from block("Traceback", error.get("traceback"))


def _requirement_line(item: JsonObject) -> str:
    call = harmless(call_text(item))
    if item.get("decision"):
        return f"{call}: {harmless(decision_text(item['decision']))}"
    name = item.get("requirement_id")
    return f"Waits for {call}: unpause show {name}"


def _error_text(error: Any) -> str | None:  # noqa: ANN401 - a text, or an object with it
    if isinstance(error, dict):
        return str(error.get("message") or error.get("content") or harmless_json(error))
    return None if error is None else str(error)


def _text(value: Any) -> str | None:  # noqa: ANN401 - a run's output may be any JSON
    return value if value is None or isinstance(value, str) else harmless_json(value, indent=2)
