"""What an inbox lists, and for whom."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest

from tests.support.caller import Caller, body_of, refusal
from tests.support.server import Server
from tests.support.toolbox import JsonObject, calls, plan


async def inbox(caller: Caller, **query: object) -> list[JsonObject]:
    """Return the first page of an inbox."""
    found: list[JsonObject] = body_of(await caller.get("/inbox", **query))["data"]
    return found


async def tools_in(caller: Caller, **query: object) -> list[str]:
    """Return the tools of the requests in an inbox."""
    return [item["tool_name"] for item in await inbox(caller, **query)]


async def test_a_plain_request_is_in_the_inbox_of_who_started_the_run_and_of_nobody_else(server: Server) -> None:
    run = await server.user("alice").run_tools("delete_file")
    (item,) = await inbox(server.user("alice"))
    assert item["requirement_id"] == run["requirements"][0]["id"]
    assert {key: item[key] for key in ("run_id", "agent_id", "started_by", "kind", "status", "may_decide")} == {
        "run_id": run["run_id"],
        "agent_id": "toolbox",
        "started_by": "alice",
        "kind": "confirmation",
        "status": "open",
        "may_decide": True,
    }
    assert item["arguments"] == {"path": "a"}
    assert item["tool_description"] == "Do something with a file."
    assert [(said["role"], said["text"]) for said in item["messages"]] == [("user", calls("delete_file"))]
    assert await inbox(server.user("bob"), who="all") == []


async def test_runs_of_both_apis_and_all_agents_are_in_one_inbox(server: Server) -> None:
    alice = server.user("alice")
    await alice.run_tools("delete_file")
    server.clock.move(1)
    await alice.create(calls("delete_file"), agent="other")
    server.clock.move(1)
    await alice.create_by_codegen(plan([("ask", {"question": "Why?"})]))
    found = await inbox(alice)
    assert [(item["agent_id"], item["tool_name"], item["kind"]) for item in found] == [
        ("toolbox", "delete_file", "confirmation"),
        ("other", "delete_file", "confirmation"),
        ("toolbox", "ask", "question"),
    ]


async def test_an_approver_finds_exactly_the_request_that_names_it(server: Server) -> None:
    run = await server.user("alice").run_tools("edit", "delete_file")
    assert await tools_in(server.user("bob")) == ["edit"]
    assert await tools_in(server.user("bob"), who="all") == ["edit"]
    assert await tools_in(server.user("alice")) == ["delete_file"]
    (item,) = await inbox(server.user("alice"), who="others")
    assert (item["tool_name"], item["may_decide"], item["approvers"]) == ("edit", False, ["bob"])
    assert "can only be decided by its approvers" in item["why_not"]
    (mine,) = await inbox(server.user("bob"))
    assert body_of(await server.user("bob").get(f"/inbox/{mine['requirement_id']}"))["may_decide"] is True
    other = next(each["id"] for each in run["requirements"] if each["id"] != mine["requirement_id"])
    assert refusal(await server.user("bob").get(f"/inbox/{other}"), 404) == "Requirement not found"


async def test_a_scope_that_a_tool_names_puts_its_requests_into_an_inbox(server: Server) -> None:
    await server.user("alice").run_tools("lend")
    assert await tools_in(server.user("carol")) == ["lend"]
    only = await server.add_user(1, "dora", "finance:approve")
    assert await tools_in(only) == ["lend"]
    assert await tools_in(await server.add_user(1, "dora", "agents:read", "sessions:read"), who="all") == []


async def test_a_request_for_an_administrator_is_in_the_inbox_of_who_may_resolve_approvals(server: Server) -> None:
    run = await server.user("alice").run_tools("deploy")
    (item,) = await inbox(server.user("bob"))
    assert (item["needs_approval"], item["run_id"]) == (True, run["run_id"])
    plain = await server.add_user(1, "alice")
    assert await tools_in(plain) == []
    (seen,) = await inbox(plain, who="others")
    assert "approvals:write" in seen["why_not"]


async def test_who_started_a_run_waits_for_a_second_person(server: Server) -> None:
    await server.user("alice").run_tools("transfer")
    assert await tools_in(server.user("alice")) == []
    (item,) = await inbox(server.user("alice"), who="others")
    assert "cannot be decided by the user who started the run" in item["why_not"]
    assert await tools_in(server.user("root")) == ["transfer"]


async def test_a_program_names_whom_it_acts_for(server: Server) -> None:
    await server.user("service").run_tools("transfer", user_id="ada")
    service = server.user("service")
    assert await tools_in(service, acting_for="ada") == []
    assert await tools_in(service, acting_for="eve") == []  # isolated: the run is Ada's
    await service.run_tools("edit", user_id="ada")
    assert await tools_in(service, acting_for="bob") == ["edit"]
    assert await tools_in(server.user("alice"), acting_for="bob") == []


async def test_the_filters_select_what_they_name(server: Server) -> None:
    alice, root = server.user("alice"), server.user("root")
    old = await alice.run_tools("delete_file", session_id="first")
    server.clock.move(100)
    await server.user("bob").run_tools("soon_rejected", session_id="second")
    for query, tools in (
        ({}, ["delete_file", "soon_rejected"]),
        ({"tool_name": "soon_rejected"}, ["soon_rejected"]),
        ({"agent_id": "other"}, []),
        ({"user_id": "alice"}, ["delete_file"]),
        ({"session_id": "first"}, ["delete_file"]),
        ({"older_than": 50}, ["delete_file"]),
        ({"expires_within": 60}, ["soon_rejected"]),
        ({"expires_within": 10}, []),
        ({"in_doubt": "false"}, ["delete_file", "soon_rejected"]),
        ({"in_doubt": "true"}, []),
    ):
        assert await tools_in(root, **query) == tools, query
    assert old["status"] == "PAUSED"


async def test_pages_follow_one_another_by_their_cursors(server: Server) -> None:
    alice = server.user("alice")
    for _ in range(3):
        await alice.run_tools("delete_file", "edit")
        server.clock.move(1)
    for whose, tools in (("mine", ["delete_file"]), ("others", ["edit"]), ("all", ["delete_file", "edit"])):
        found: list[JsonObject] = []
        cursor: object = None
        while cursor is not None or not found:
            query = {} if cursor is None else {"cursor": cursor}
            page = body_of(await alice.get("/inbox", who=whose, limit=2, **query))
            assert len(page["data"]) <= 2
            found += page["data"]
            cursor = page["next"]
        assert len({item["requirement_id"] for item in found}) == 3 * len(tools)
        assert sorted({item["tool_name"] for item in found}) == tools
        assert [item["created_at"] for item in found] == sorted(item["created_at"] for item in found)


@pytest.mark.parametrize(
    "content",
    [
        *("x", "null", "[1,2]", "[" * 200, '["2026-01-01T00:00:00", "00000000-0000-4000-8000-000000000000"]'),
        # No database takes such text, and PostgreSQL not that of the second one.
        *('["2026-01-01T00:00:00+00:00", "\\ud800"]', '["2026-01-01T00:00:00+00:00", "\\u0000"]'),
    ],
)
async def test_a_cursor_of_another_list_is_refused(server: Server, content: str) -> None:
    cursor = urlsafe_b64encode(content.encode()).decode()
    assert "cursor" in refusal(await server.user("alice").get("/inbox", cursor=cursor), 400)
    assert "cursor" in refusal(await server.user("alice").get("/inbox", cursor=content[:9]), 400)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 201}, {"who": "me"}, {"older_than": -1}, {"older_than": "nan"}]
)
async def test_a_parameter_out_of_range_is_refused(server: Server, query: dict[str, object]) -> None:
    assert (await server.user("alice").get("/inbox", **query)).status_code == 422


async def test_a_form_shows_what_may_be_filled_in_and_changed(server: Server) -> None:
    alice = server.user("alice")
    await alice.create(
        plan(
            [("move_file", {"source": "a", "target": "b"}), ("delete_file", {"path": "a"}), ("book", {"day": "Monday"})]
        )
    )
    book, delete, move = sorted(await inbox(alice), key=lambda item: str(item["tool_name"]))
    assert book["form"]["required"] == ["seats"]
    assert book["form"]["schema"]["properties"]["seats"]["type"] == "integer"
    assert book["form"]["editable"] == []
    assert move["form"]["editable"] == ["target"]
    assert move["form"]["schema"]["properties"]["target"]["default"] == "b"
    assert delete["form"] is None


async def test_what_has_expired_is_not_listed_before_it_is_swept(server: Server) -> None:
    alice = server.user("alice")
    await alice.run_tools("soon_rejected")
    (item,) = await inbox(alice)
    server.clock.move(61)
    assert await inbox(alice) == []
    shown = body_of(await alice.get(f"/inbox/{item['requirement_id']}"))
    assert (shown["may_decide"], shown["why_not"]) == (False, "It expired before anybody decided it")


async def test_a_decided_request_shows_its_decision_and_a_later_one_the_decision_before(server: Server) -> None:
    alice = server.user("alice")
    run = await alice.run_tools("delete_file")
    first = run["requirements"][0]["id"]
    await alice.answer(run, confirmed=False, confirmation_note="not that one")
    shown = body_of(await alice.get(f"/inbox/{first}"))
    decision = {"decision": "reject", "by": "alice", "at": "2026-01-01T00:00:00Z", "note": "not that one"}
    assert shown["decision"] == {**decision, "via": "agno"}
    assert (shown["status"], shown["run_status"], shown["may_decide"]) == ("decided", "COMPLETED", False)
    await alice.run_tools("delete_file")
    (item,) = await inbox(alice)
    later = body_of(await alice.get(f"/inbox/{item['requirement_id']}"))
    assert later["earlier"] == [{"requirement_id": first, "arguments": {"path": "a"}, **decision, "via": "agno"}]
    # Others' decisions are not shown to who does not see their runs.
    await server.user("bob").run_tools("delete_file")
    (of_bob,) = await inbox(server.user("bob"))
    assert body_of(await server.user("bob").get(f"/inbox/{of_bob['requirement_id']}"))["earlier"] == []


async def test_a_cancelled_and_an_expired_request_say_so(server: Server) -> None:
    alice = server.user("alice")
    runs = [await alice.run_tools(tool) for tool in ("delete_file", "soon_rejected", "soon_cancelled")]
    await alice.cancel(runs[0])
    await server.sweep_after(61)
    shown = [body_of(await alice.get(f"/inbox/{run['requirements'][0]['id']}"))["status"] for run in runs]
    assert shown == ["cancelled", "expired", "expired"]
    assert await inbox(alice, who="all") == []


async def test_nothing_of_another_organization_is_listed(server: Server) -> None:
    run = await server.user("alice").run_tools("delete_file", "edit", "deploy")
    assert await inbox(server.user("rival"), who="all") == []
    for requirement in run["requirements"]:
        assert (await server.user("rival").get(f"/inbox/{requirement['id']}")).status_code == 404


async def test_a_request_is_found_by_the_beginning_of_its_id_or_of_its_runs_also_when_it_is_decided(
    server: Server,
) -> None:
    alice = server.user("alice")
    run, other = await alice.run_tools("delete_file"), await alice.run_tools("delete_file")
    name = run["requirements"][0]["id"]

    async def found(caller: Caller, prefix: str, **query: object) -> list[str]:
        return [item["requirement_id"] for item in await inbox(caller, id_prefix=prefix, **{"who": "all", **query})]

    for is_open in (True, False):
        for prefix in (name, name[:13], run["run_id"], run["run_id"][:13]):
            assert await found(alice, prefix) == [name]
            assert await found(alice, prefix, who="mine") == [name] * is_open
            assert await found(server.user("bob"), prefix) == []
            assert await found(server.user("rival"), prefix) == []
        if is_open:
            await alice.answer(run)
    assert await found(alice, "---") == []
    assert await found(alice, other["run_id"]) == [other["requirements"][0]["id"]]
    for wrong in ("ab", "abcg", "%%%", name + "0", name.upper()):
        assert (await alice.get("/inbox", id_prefix=wrong)).status_code == 422
