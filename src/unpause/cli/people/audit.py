"""``unpause audit``: who decided or changed what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import App, Parameter

from unpause.cli.numbers import Limit
from unpause.cli.people.errors import items_of
from unpause.cli.people.ids import find_run_id
from unpause.cli.people.options import DEFAULTS, Common
from unpause.cli.people.printing import Listing
from unpause.cli.people.tables import Column
from unpause.cli.people.times import read_time

if TYPE_CHECKING:
    from unpause.cli.people.errors import JsonObject

app = App(name="audit")
# Those of the operator, who has the database; by name, since they load what a client has no need of.
app.command(
    "unpause.cli.audit:verify",
    name="verify",
    help="Check that nothing in the audit trail was changed or removed, in the database itself.\n\n"
    "It prints the newest hash of each organization: note it elsewhere, and expect it later. The exit code is 1 where "
    "something is wrong.",
)
app.command(
    "unpause.cli.audit:export",
    name="export",
    help="Write the audit trail as CSV or JSON lines, from the database.\n\n"
    "In CSV a cell that a spreadsheet would take for a formula begins with an apostrophe.",
)
app.command("unpause.cli.retention:purge_audit", name="purge", help="Delete old entries, in the database itself.")

_LARGEST_PAGE: Final = 1000


@app.default
def list_entries(
    *,
    run: Annotated[
        str | None, Parameter(metavar="ID", help="Only those of this run: its id, or its beginning.")
    ] = None,
    limit: Limit = 50,
    common: Common = DEFAULTS,
) -> None:
    """List the audit trail, newest first; administrators may."""
    entries: list[JsonObject] = []
    size = max(1, min(limit, _LARGEST_PAGE))
    with common.connect() as client:
        run_id = None if run is None else find_run_id(client, run)
        page = 0
        while len(entries) < limit:
            page += 1
            data = items_of(client.get("/audit", run_id=run_id, limit=size, page=page))
            entries += data
            if len(data) < size:
                break
    common.printer().list(_LISTING, [{**entry, "id": str(entry["id"])} for entry in entries[:limit]])


def _cells(entry: JsonObject) -> list[str]:
    at = read_time(entry["at"])
    decided = " ".join(text for text in (entry["decision"], entry["note"] and f"({entry['note']})") if text)
    return [
        f"{at:%Y-%m-%d %H:%M:%S}" if at else "",
        entry["action"],
        entry["actor"] or "-",
        entry["run_id"] or "-",
        decided or entry["subject"] or "",
    ]


_LISTING: Final = Listing(
    "id",
    (*map(Column, ("AT (UTC)", "ACTION", "ACTOR")), Column("RUN"), Column("ABOUT", is_flexible=True)),
    _cells,
    "There are no entries.",
)
