"""``unpause grants``: decisions that count for later calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from unpause.cli.numbers import Limit
from unpause.cli.people.escapes import harmless
from unpause.cli.people.ids import find_grant
from unpause.cli.people.options import DEFAULTS, AgentFilter, Common
from unpause.cli.people.printing import Listing
from unpause.cli.people.requests import call_text
from unpause.cli.people.tables import Column
from unpause.cli.people.times import age, now, until

if TYPE_CHECKING:
    from unpause.cli.people.errors import JsonObject

app = App(name="grants")


@app.default
def list_grants(
    *,
    agent: AgentFilter = None,
    everything: Annotated[
        bool, Parameter(name="--all", negative=(), show_default=False, help="Also those that are over.")
    ] = False,
    limit: Limit = 50,
    common: Common = DEFAULTS,
) -> None:
    """List the decisions that count for later calls, newest first."""
    with common.connect() as client:
        items = list(client.items("/grants", limit, agent_id=agent, active=None if everything else True))
    common.printer().list(_listing(), items)


@app.command
def revoke(
    grant: Annotated[str, Parameter(help="Id of the grant, or its beginning.")], /, *, common: Common = DEFAULTS
) -> None:
    """Revoke a grant: later calls wait again."""
    with common.connect() as client:
        found = find_grant(client, grant)
        revoked = client.delete(f"/grants/{found['grant_id']}")
    text = f"Revoked: {harmless(_call(found))} waits for a decision again"
    common.printer().object(revoked, found["grant_id"], text)


def _listing() -> Listing:
    at = now()

    def cells(item: JsonObject) -> list[str]:
        return [
            age(item["created_at"], at),
            item["agent_id"],
            _call(item),
            _scope(item, until(item.get("until"), at)),
            item.get("granted_by") or "-",
            str(item["uses"]),
        ]

    columns = (
        *map(Column, ("AGE", "AGENT")),
        Column("CALLS", is_flexible=True),
        *map(Column, ("FOR", "BY", "USED")),
    )
    return Listing("grant_id", columns, cells, "No decision counts for later calls.")


def _call(item: JsonObject) -> str:
    return f"{item['tool_name']}(…)" if item["match"] == "tool" else call_text(item)


def _scope(item: JsonObject, end: str) -> str:
    if item.get("revoked_at"):
        return "revoked"
    return end if item["scope"] == "until" else f"this {item['scope']}" if item["active"] else "over"
