"""To one user of an organization the runs and sessions of another one are not there; who decides for all sees all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.access.users import DELETE, DEPLOY, SECRET, SESSION, Users, served_users
from tests.support.caller import CODEGEN, body_of, confirming, path_of
from tests.support.server import User
from tests.support.toolbox import JsonObject
from unpause.domain.scopes import DEFAULT_SCOPES

NOWHERE: Final = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Ask:
    """A request about something of alice's; ``status`` is what everybody else is answered."""

    method: str
    path: str
    status: int = 404
    form: dict[str, str] | None = None
    body: JsonObject | None = None
    query: dict[str, str] = field(default_factory=dict)

    async def send(self, person: User, **names: str) -> Any:  # noqa: ANN401 - httpx's answer
        """Have the person send it, with these names in the path and in the body."""
        content: dict[str, Any] = {}
        if self.form is not None:
            content["data"] = {name: value.replace("{tools}", names["tools"]) for name, value in self.form.items()}
        elif self.body is not None:
            content["json"] = json.loads(json.dumps(self.body).replace("{session_id}", names["session_id"]))
        return await person.request(self.method, self.path.format(**names), params=self.query, **content)


_RUN: Final = "/agents/toolbox/runs/{run_id}"
_IN_SESSION: Final = "/sessions/{session_id}"
# As what is not there: a list is empty, and what is removed already is as good as removed.
ASKS: Final = (
    Ask("GET", _RUN),
    Ask("GET", _RUN, query={"session_id": SESSION}),
    Ask("GET", f"{_RUN}/events"),
    Ask("POST", f"{_RUN}/events/ticket"),
    Ask("POST", f"{_RUN}/resume", form={"last_event_index": "0"}),
    Ask("POST", f"{_RUN}/continue", form={"tools": "{tools}"}),
    Ask("POST", f"{_RUN}/continue", form={"tools": "{tools}", "stream": "false", "user_id": "alice"}),
    Ask("POST", f"{_RUN}/continue", form={"tools": "{tools}", "session_id": SESSION, "background": "true"}),
    Ask("POST", f"{_RUN}/continue", form={"tools": '[{"tool_call_id": 1}]'}),
    Ask("POST", f"{_RUN}/cancel"),
    Ask("POST", f"{_RUN}/pause"),
    Ask("GET", "/agents/toolbox/ag-ui/{run_id}/events"),
    Ask("GET", "/agents/toolbox/runs", 200, query={"session_id": SESSION}),
    Ask("GET", "/approvals/{approval_id}"),
    Ask("GET", "/approvals/{approval_id}/status"),
    Ask("DELETE", "/approvals/{approval_id}", 403),
    Ask("POST", "/approvals/{approval_id}/resolve", 403, body={"status": "approved"}),
    Ask("GET", _IN_SESSION),
    Ask("GET", _IN_SESSION, query={"user_id": "alice"}),
    Ask("PATCH", _IN_SESSION, body={"session_name": "bob's now"}),
    Ask("PATCH", _IN_SESSION, body={"session_state": {"is": "bob's"}}, query={"user_id": "alice"}),
    Ask("POST", f"{_IN_SESSION}/rename", body={"session_name": "bob's now"}),
    Ask("GET", f"{_IN_SESSION}/runs"),
    Ask("GET", f"{_IN_SESSION}/runs", query={"user_id": "alice"}),
    Ask("GET", f"{_IN_SESSION}/run-previews"),
    Ask("GET", f"{_IN_SESSION}/runs/{{run_id}}", query={"user_id": "alice"}),
    Ask("DELETE", _IN_SESSION, 204),
    Ask("DELETE", _IN_SESSION, 204, query={"user_id": "alice"}),
    Ask(
        "DELETE",
        "/sessions",
        204,
        body={"session_ids": ["{session_id}"], "session_types": ["agent"]},
        query={"user_id": "alice"},
    ),
)


@pytest.fixture
async def users(tmp_path: Path) -> AsyncIterator[Users]:
    async with served_users(tmp_path) as users:
        yield users


@pytest.fixture
async def users_on_both(database_url: str, tmp_path: Path) -> AsyncIterator[Users]:
    """Serve on both databases: who sees what is decided in SQL."""
    async with served_users(tmp_path, database_url) as users:
        yield users


def heard_by_the_model(*prompts: str) -> str:
    """Return what the agent answers whose model was sent these words of users."""
    return " ".join(["Done.", *(f"The user said {[prompt]}." for prompt in prompts)])


def of_alice(users: Users) -> dict[str, str]:
    """Return the names that requests about her things have."""
    return {
        "run_id": users.delete["run_id"],
        "session_id": SESSION,
        "approval_id": users.approval_id,
        "tools": json.dumps(confirming(users.delete)),
    }


@pytest.mark.sql
async def test_what_one_user_has_is_not_there_for_another_one_on_any_route(users_on_both: Users) -> None:
    names = of_alice(users_on_both)
    nowhere = {**names, "run_id": NOWHERE, "session_id": NOWHERE, "approval_id": NOWHERE}
    for ask in ASKS:
        async with users_on_both.nothing_changes():
            response = await ask.send(users_on_both.bob, **names)
            other = await ask.send(users_on_both.bob, **nowhere)
        assert (response.status_code, other.status_code) == (ask.status, ask.status), (ask, response.text)
        # Word for word what is said of things that do not exist.
        told = response.text
        for name in ("run_id", "session_id", "approval_id"):
            told = told.replace(names[name], NOWHERE)
        assert told == other.text, ask
        assert SECRET not in response.text, ask


@pytest.mark.sql
async def test_lists_and_counts_hold_only_what_is_ones_own(users_on_both: Users) -> None:
    for query in ({}, {"user_id": "alice"}):
        for path in ("/sessions", "/approvals"):
            listed = body_of(await users_on_both.bob.get(path, **query))
            assert (listed["data"], listed["meta"]["total_count"], listed["meta"]["total_pages"]) == ([], 0, 0)
        assert body_of(await users_on_both.bob.get("/approvals/count", **query)) == {"count": 0}
    assert body_of(await users_on_both.bob.get("/approvals", run_id=users_on_both.deploy["run_id"]))["data"] == []
    assert body_of(await users_on_both.bob.get("/sessions", session_name=SECRET[:4]))["data"] == []

    await users_on_both.bob.create(DELETE, session_id="bob's session")

    for person, session in ((users_on_both.alice, SESSION), (users_on_both.bob, "bob's session")):
        for query in ({}, {"user_id": "alice"} if person is users_on_both.alice else {"user_id": "bob"}):
            listed = body_of(await person.get("/sessions", **query))
            assert [one["session_id"] for one in listed["data"]] == [session]
    assert body_of(await users_on_both.alice.get("/approvals/count")) == {"count": 1}


async def test_nobody_begins_a_run_in_another_users_session_or_hears_what_was_said_there(users: Users) -> None:
    by_jwt = users.server.by_jwt("bob", *DEFAULT_SCOPES, session_id=SESSION)
    for person, fields in (
        (users.bob, {"session_id": SESSION}),
        (users.bob, {"session_id": SESSION, "user_id": "alice"}),
        (users.service, {"session_id": SESSION, "user_id": "bob"}),
        (by_jwt, {}),
    ):
        for how in ({}, {"stream": "true"}, {"background": "true"}):
            async with users.nothing_changes():
                response = await person.form("/agents/other/runs", message="what was said?", **fields, **how)
            assert response.status_code == 404
            assert response.json() == {"detail": f"Session with ID {SESSION} not found"}

    own = await users.bob.create("what was said?", agent="other")
    assert own["content"] == heard_by_the_model("what was said?")
    hers = await users.alice.create("what was said?", agent="other", session_id=SESSION)
    assert hers["content"] == heard_by_the_model(SECRET, "what was said?")


async def test_a_key_of_another_user_is_a_new_one(users: Users) -> None:
    hers = body_of(await users.alice.form("/agents/toolbox/runs", "a key", message=DELETE))
    again = body_of(await users.alice.form("/agents/toolbox/runs", "a key", message=DELETE))
    assert again["run_id"] == hers["run_id"]

    for person in (users.bob, users.boss, users.server.by_jwt("carol", "agents:run")):
        response = await person.form("/agents/toolbox/runs", "a key", message=DELETE)
        assert body_of(response)["run_id"] != hers["run_id"]
    # It is not even known: another body with it is no mistake.
    assert (await users.bob.form("/agents/other/runs", "another key", message="hello")).status_code == 200
    assert (await users.alice.form("/agents/other/runs", "another key", message="goodbye")).status_code == 200

    tools = json.dumps(confirming(hers))
    body_of(await users.alice.form(f"{path_of(hers)}/continue", "a key to continue", tools=tools))
    async with users.nothing_changes():
        response = await users.bob.form(f"{path_of(hers)}/continue", "a key to continue", tools=tools)
    assert response.status_code == 404


async def test_a_key_of_another_member_is_a_new_one_through_codegens_api(users: Users) -> None:
    people = (users.alice, users.bob, users.alice)
    asked = [await person.post(CODEGEN, {"prompt": DELETE}, "a key") for person in people]
    hers, his, again = (body_of(response)["id"] for response in asked)
    assert hers == again != his


async def test_a_user_cannot_say_to_be_another_one(users: Users) -> None:
    by_jwt = users.server.by_jwt("bob", *DEFAULT_SCOPES)
    for person in (users.bob, by_jwt):
        run = await person.create(DELETE, user_id="alice")
        assert run["user_id"] == "bob"
        made = body_of(await person.post("/sessions", {"user_id": "alice"}), 201)
        assert made["user_id"] == "bob"
        assert body_of(await person.get(f"/sessions/{made['session_id']}", user_id="alice"))["user_id"] == "bob"
        done = body_of(await person.form(f"{path_of(run)}/continue", tools=json.dumps(confirming(run)), user_id="eve"))
        assert done["status"] == "COMPLETED"
    rows = await users.server.dump()
    assert {row["continued_by"] for row in rows["runs"]} == {None, "bob"}
    assert {row["actor"] for row in rows["audit"] if row["action"] == "requirement.answered"} == {"bob"}


async def test_an_administrator_sees_and_moves_what_everybody_has(users: Users) -> None:
    await users.bob.create(DELETE, session_id="bob's session")

    listed = body_of(await users.boss.get("/sessions"))["data"]
    assert {one["session_id"] for one in listed} == {SESSION, "bob's session"}
    for user, session in (("alice", SESSION), ("bob", "bob's session"), ("carol", None)):
        of_user = body_of(await users.boss.get("/sessions", user_id=user))["data"]
        assert [one["session_id"] for one in of_user] == ([session] if session else [])
    # To one that it looks for, what belongs to another one is not there.
    assert (await users.boss.get(f"/sessions/{SESSION}", user_id="bob")).status_code == 404
    assert body_of(await users.boss.get(f"/sessions/{SESSION}"))["user_id"] == "alice"
    assert body_of(await users.boss.get("/approvals/count")) == {"count": 1}
    assert (await users.boss.get(f"{path_of(users.delete)}/events")).status_code == 200

    continued = await users.boss.form(f"{path_of(users.delete)}/continue", tools=json.dumps(confirming(users.delete)))
    assert body_of(continued)["status"] == "COMPLETED"
    # Hers, as before, and done by somebody else.
    [row] = [row for row in (await users.server.dump())["runs"] if row["run_id"] == users.delete["run_id"]]
    assert (row["user_id"], row["continued_by"]) == ("alice", "boss")
    assert body_of(await users.alice.get(path_of(users.delete)))["status"] == "COMPLETED"


async def test_who_decides_approvals_sees_those_of_everybody_and_no_more(users: Users) -> None:
    approval = f"/approvals/{users.approval_id}"
    assert body_of(await users.decider.get("/approvals/count")) == {"count": 1}
    for query in ({}, {"user_id": "alice"}, {"run_id": users.deploy["run_id"]}):
        [listed] = body_of(await users.decider.get("/approvals", **query))["data"]
        assert (listed["id"], listed["user_id"]) == (users.approval_id, "alice")
    assert body_of(await users.decider.get(approval))["tool_args"] == {"env": SECRET}
    for path in (path_of(users.deploy), f"{path_of(users.deploy)}/events", f"/sessions/{SESSION}"):
        assert (await users.decider.get(path)).status_code == 404
    assert body_of(await users.decider.get("/sessions"))["data"] == []
    assert (await users.decider.form(f"{path_of(users.deploy)}/continue")).status_code == 404

    body_of(await users.decider.post(f"{approval}/resolve", {"status": "approved", "resolved_by": "alice"}))

    assert body_of(await users.alice.get(f"{approval}/status"))["resolved_by"] == "decider"
    assert body_of(await users.alice.form(f"{path_of(users.deploy)}/continue"))["status"] == "COMPLETED"


async def test_who_may_remove_approvals_but_not_decide_them_finds_only_their_own(users: Users) -> None:
    remover = await users.server.add_user(1, "remover", *DEFAULT_SCOPES, "approvals:delete")
    async with users.nothing_changes():
        assert (await remover.request("DELETE", f"/approvals/{users.approval_id}")).status_code == 404
    (tool,) = (await remover.create(DEPLOY))["tools"]
    assert (await remover.request("DELETE", f"/approvals/{tool['approval_id']}")).status_code == 204
    assert (await users.decider.request("DELETE", f"/approvals/{users.approval_id}")).status_code == 204


async def test_without_isolation_everybody_sees_and_moves_everything(tmp_path: Path) -> None:
    async with served_users(tmp_path, user_isolation=False) as users:
        [listed] = body_of(await users.bob.get("/sessions"))["data"]
        assert listed["session_id"] == SESSION
        assert body_of(await users.bob.get("/approvals/count")) == {"count": 1}
        assert body_of(await users.bob.get(path_of(users.delete)))["user_id"] == "alice"
        heard = await users.bob.create("what was said?", agent="other", session_id=SESSION)
        assert heard["content"] == heard_by_the_model(SECRET, "what was said?")
        tools = json.dumps(confirming(users.delete))
        async with users.nothing_changes():
            # A program that says for whom it continues is held to that.
            named = await users.service.form(f"{path_of(users.delete)}/continue", tools=tools, user_id="bob")
            assert named.status_code == 404
        continued = await users.bob.form(f"{path_of(users.delete)}/continue", tools=tools)
        assert body_of(continued)["status"] == "COMPLETED"
        # What a token may not do it still may not.
        refused = await users.bob.post(f"/approvals/{users.approval_id}/resolve", {"status": "approved"})
        assert refused.status_code == 403


async def test_through_codegens_api_members_see_and_resume_what_colleagues_have(users: Users) -> None:
    key = await users.server.key_of(users.delete)
    everything = body_of(await users.bob.get(f"{CODEGEN}s"))
    assert (everything["total"], key in {run["id"] for run in everything["items"]}) == (3, True)
    members = body_of(await users.bob.get("/v1/organizations/1/users"))["items"]
    numbers = {user["github_username"]: user["id"] for user in members}
    assert body_of(await users.bob.get(f"{CODEGEN}s", user_id=numbers["alice"]))["total"] == 3
    assert body_of(await users.bob.get(f"{CODEGEN}s", user_id=numbers["bob"]))["total"] == 0
    assert SECRET in body_of(await users.bob.get(f"{CODEGEN}/{key}/logs"))["logs"][0]["tool_input"]["prompt"]

    body_of(await users.bob.post(f"{CODEGEN}/resume", {"agent_run_id": key, "prompt": "not that one"}))
    await users.server.settle(1)

    assert body_of(await users.bob.get(f"{CODEGEN}/{key}"))["status"] == "COMPLETE"
    [row] = [row for row in (await users.server.dump())["runs"] if row["id"] == key]
    assert (row["user_id"], row["continued_by"], row["continued_via"]) == ("alice", "bob", "codegen")
    # It is as little there for him through the other API as before.
    assert (await users.bob.get(path_of(users.delete))).status_code == 404


async def test_a_program_without_a_user_acts_for_whom_each_request_names(users: Users) -> None:
    of_carol = await users.service.create(DELETE, user_id="carol", session_id="carol's session")
    of_dave = await users.service.create(DELETE, user_id="dave", session_id="dave's session")
    assert (of_carol["user_id"], of_dave["user_id"]) == ("carol", "dave")

    for user, session, other in (("carol", "carol's session", "dave's"), ("dave", "dave's session", "carol's")):
        listed = body_of(await users.service.get("/sessions", user_id=user))["data"]
        assert [one["session_id"] for one in listed] == [session]
        assert (await users.service.get(f"/sessions/{other} session", user_id=user)).status_code == 404
        assert (await users.service.get(f"/sessions/{other} session/runs", user_id=user)).status_code == 404
    tools = json.dumps(confirming(of_carol))
    async with users.nothing_changes():
        for person in (users.service, users.bob):
            refused = await person.form(f"{path_of(of_carol)}/continue", tools=tools, user_id="dave")
            assert refused.status_code == 404
        begun = await users.service.form(
            "/agents/other/runs", message="hello", user_id="dave", session_id="carol's session"
        )
        assert begun.status_code == 404
    # The user that it names is the one who has a token of her own.
    carol = await users.server.add_user(1, "carol")
    assert body_of(await carol.get(path_of(of_carol)))["status"] == "PAUSED"
    done = await users.service.form(f"{path_of(of_carol)}/continue", tools=tools, user_id="carol")
    assert body_of(done)["status"] == "COMPLETED"
    # Where it names nobody it is trusted with what everybody has.
    assert len(body_of(await users.service.get("/sessions"))["data"]) == 3


async def test_the_same_key_for_another_user_of_a_program_is_a_mistake(users: Users) -> None:
    body_of(await users.service.form("/agents/toolbox/runs", "a key", message=DELETE, user_id="carol"))
    async with users.nothing_changes():
        refused = await users.service.form("/agents/toolbox/runs", "a key", message=DELETE, user_id="dave")
    assert refused.status_code == 422


async def test_a_jwt_stands_for_the_same_user_as_a_token(users: Users) -> None:
    alice, mallory = (users.server.by_jwt(name, *DEFAULT_SCOPES) for name in ("alice", "mallory"))
    names = of_alice(users)
    for ask in ASKS:
        async with users.nothing_changes():
            response = await ask.send(mallory, **names)
        assert response.status_code == ask.status, (ask, response.text)
        assert SECRET not in response.text
    assert body_of(await alice.get(f"/sessions/{SESSION}"))["user_id"] == "alice"
    assert body_of(await alice.get("/approvals/count")) == {"count": 1}
    done = await alice.form(f"{path_of(users.delete)}/continue", tools=json.dumps(confirming(users.delete)))
    assert body_of(done)["status"] == "COMPLETED"


async def test_the_session_in_a_jwt_is_where_its_runs_belong(users: Users) -> None:
    bob = users.server.by_jwt("bob", *DEFAULT_SCOPES, session_id="the session of the JWT")
    run = await bob.create(DELETE, session_id="another session")
    assert run["session_id"] == "the session of the JWT"
    elsewhere = await users.bob.create(DELETE, session_id="another session")
    refused = await bob.form(f"{path_of(elsewhere)}/continue", tools=json.dumps(confirming(elsewhere)))
    assert refused.status_code == 404


async def test_a_session_id_is_given_once_in_an_organization_and_again_in_another_one(users: Users) -> None:
    async with users.nothing_changes():
        for person in (users.bob, users.boss, users.service):
            taken = await person.post("/sessions", {"session_id": SESSION, "session_state": {"is": "mine"}})
            assert (taken.status_code, SECRET in taken.text) == (409, False)

    await users.server.add_organization(2, "elsewhere")
    namesake = await users.server.add_user(2, "alice")
    heard = await namesake.create("what was said?", agent="other", session_id=SESSION)
    assert heard["content"] == heard_by_the_model("what was said?")
    assert body_of(await namesake.get(f"/sessions/{SESSION}"))["chat_history"][0]["content"] == "what was said?"
    assert (await namesake.request("DELETE", f"/sessions/{SESSION}")).status_code == 204
    assert (await namesake.get(f"/sessions/{SESSION}")).status_code == 404
    assert body_of(await users.alice.get(f"/sessions/{SESSION}"))["chat_history"][0]["content"] == SECRET


async def test_a_session_of_nobody_is_for_those_who_see_everything(users: Users) -> None:
    await users.service.create("said by nobody", agent="other", session_id="nobody's")
    for person in (users.alice, users.bob):
        assert (await person.get("/sessions/nobody's")).status_code == 404
        async with users.nothing_changes():
            begun = await person.form("/agents/other/runs", message="hello", session_id="nobody's")
            assert begun.status_code == 404
    heard = await users.boss.create("what was said?", agent="other", session_id="nobody's")
    assert heard["content"] == heard_by_the_model("said by nobody", "what was said?")


@pytest.mark.parametrize("look", [path_of, lambda run: f"{path_of(run)}/events", lambda _: f"/sessions/{SESSION}"])
async def test_the_owner_sees_all_of_it(users: Users, look: Callable[[JsonObject], str]) -> None:
    response = await users.alice.get(look(users.delete))
    assert response.status_code == 200
    assert SECRET in response.text
