"""Whatever JSON comes as ``tools``: no answer of the server is its own failure, and only genuine answers move a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.server import Server
from tests.support.toolbox import JsonObject

# Everything but lone surrogates, which no UTF-8 body can carry.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
KEYS = (
    "tool_call_id",
    "tool_name",
    "tool_args",
    "confirmed",
    "confirmation_note",
    "result",
    "requires_confirmation",
    "requires_user_input",
    "user_input_schema",
    "external_execution_required",
    "approval_type",
)


def _changed(tool: JsonObject) -> st.SearchStrategy[JsonObject]:
    """Echoes of the tool in which any field may hold anything, or is left out."""
    changes = st.dictionaries(st.sampled_from(KEYS), ANYTHING | st.booleans() | st.just({"path": "/a"}), max_size=4)
    dropped = st.sets(st.sampled_from(KEYS), max_size=4)

    def merge(change: JsonObject, drop: set[str]) -> JsonObject:
        return {key: value for key, value in {**tool, **change}.items() if key not in drop}

    return st.builds(merge, changes, dropped)


def _is_answer(item: object, tool: JsonObject) -> bool:
    """Whether this object decides about the call that was shown, and about no other."""
    return (
        isinstance(item, dict)
        and item.get("tool_call_id") == tool["tool_call_id"]
        and item.get("tool_name") in (None, tool["tool_name"])
        and item.get("tool_args") in (None, tool["tool_args"])
        and isinstance(item.get("confirmed"), bool)
        and item.get("result") is None
    )


async def test_random_tools_neither_break_the_server_nor_move_a_run(server: Server) -> None:
    loop = asyncio.get_running_loop()

    def wait_for(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever the work gives
        return asyncio.run_coroutine_threadsafe(work, loop).result(timeout=60)

    run = await server.create([("delete_file", {"path": "/a"})])

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(ANYTHING | st.lists(_changed(run["tools"][0]) | ANYTHING, max_size=3))
    def property_holds(tools: object) -> None:
        wait_for(_check(server, run, tools))

    await asyncio.to_thread(property_holds)
    assert server.executed == []


async def _check(server: Server, run: JsonObject, tools: object) -> None:
    if isinstance(tools, list) and any(_is_answer(item, run["tools"][0]) for item in tools):
        await _check_genuine(server, run, tools)
        return
    status, body = await server.refused(run, json.dumps(tools))
    assert status in {400, 409}
    assert isinstance(body["detail"], str)


async def _check_genuine(server: Server, run: JsonObject, tools: list[Any]) -> None:
    """Send what holds a genuine answer to a run of its own: it either counts as a whole or changes nothing."""
    del run
    fresh = await server.create([("delete_file", {"path": "/a"})])
    shown = fresh["tools"][0]["tool_call_id"]
    mine = [{**item, "tool_call_id": shown} if isinstance(item, dict) else item for item in tools]
    before = await server.lasting()
    response = await server.post_continue(fresh, json.dumps(mine))
    ran, server.executed[:] = list(server.executed), []
    if response.status_code == 200:
        # The same answer may come more than once, and beside echoes that decide nothing.
        (confirmed,) = {item["confirmed"] for item in mine if item.get("confirmed") is not None}
        assert ran == (["delete_file(/a)"] if confirmed else [])
    else:
        assert response.status_code == 400, response.text
        assert ran == []
        assert await server.lasting() == before
