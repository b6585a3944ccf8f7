"""What the tests of decisions send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.caller import Caller, body_of

if TYPE_CHECKING:
    import httpx

    from tests.support.toolbox import JsonObject


async def waiting(caller: Caller, tool: str | None = None, **query: object) -> JsonObject:
    """Return the only request in an inbox, or the only one of this tool."""
    found = body_of(await caller.get("/inbox", **query))["data"]
    (item,) = [item for item in found if tool in {None, item["tool_name"]}]
    assert isinstance(item, dict)
    return item


async def decide(
    caller: Caller,
    item: JsonObject,
    decision: str = "approve",
    *,
    key: str | None = None,
    continues: bool = True,
    **body: object,
) -> httpx.Response:
    """Decide a request."""
    sent = {"decision": decision, "continue": continues, **body}
    return await caller.post(f"/inbox/{item['requirement_id']}/decide", sent, key)
