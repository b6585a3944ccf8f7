"""What one organization has that another one must neither see nor change: runs of every kind and all around them.

Every text in it that only its owner knows holds the word ``canary``. Names that strangers may come to know and try
(ids, users, sessions, addresses, keys) do not: a request may hold those.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, text

from tests.support.caller import DEADLINE, body_of, confirming, path_of
from tests.support.server import Dump, Server, User
from tests.support.toolbox import JsonObject, plan
from unpause.store.tables import users

if TYPE_CHECKING:
    from unpause.store.engine.database import Connection

THEIRS: Final = 4_200_001
OURS: Final = 4_200_777
CANARY: Final = "canary"

# Of both organizations, with a token of each.
SHARED_USER: Final = "anna"
KNOWN_USER: Final = "known-user"
URL: Final = "https://known-hooks.example/of-all-runs"
SESSIONS: Final = ("known-session-1", "known-session-2", "known-session-3")
# Where a run of theirs is executed for as long as a test goes on.
GATE: Final = "canary-gate"

# Numbers that nothing else in an answer has by chance.
_FIRST_RUN: Final = 7_700_000
_FIRST_USER: Final = 5_500_001
_FIRST_CHANNEL: Final = 6_600_000

_RUNS: Final = f"/v1/organizations/{THEIRS}/agent/run"


@dataclass(frozen=True)
class Asked:
    """A request that was made with an Idempotency-Key."""

    path: str
    key: str
    form: dict[str, str] | None = None
    body: JsonObject | None = None

    async def send(self, person: User, path: str | None = None) -> Any:  # noqa: ANN401 - httpx's answer
        """Have the person make this request, or the same one at another path."""
        if self.form is not None:
            return await person.form(path or self.path, self.key, **self.form)
        return await person.post(path or self.path, self.body, self.key)


@dataclass(frozen=True)
class Belongings:
    """What an organization has; ``admin`` is the token of its administrator, ``held`` a paused run to be held."""

    admin: str
    asked: list[Asked] = field(default_factory=list)
    held: JsonObject = field(default_factory=dict)


async def furnish(server: Server) -> Belongings:
    """Make the organization with all it has, and return what a test needs of it."""
    await server.add_organization(THEIRS, "canary organization")
    await server.application.database.write(lambda connection: _number(connection, server))
    boss = await server.add_user(THEIRS, "canary-boss", "agent_os:admin")
    known = await server.add_user(THEIRS, KNOWN_USER, "agents:run", "sessions:read", "sessions:write", "approvals:read")
    anna = await server.add_user(THEIRS, SHARED_USER)
    await server.add_user(THEIRS, None)
    has = Belongings(boss.authorization.removeprefix("Bearer "))
    hook = {"url": URL, "secret": "canary-secret-of-the-webhook"}
    body_of(await boss.post(f"/v1/organizations/{THEIRS}/webhooks/agent-run", hook))
    await _add_channels(boss, known)
    await _converse(boss, known)
    await _decide(boss, known)
    await _repeatable(has, anna, boss)
    has.held.update(await boss.create(plan([("hold", {"name": GATE})])))
    await server.settle(THEIRS)
    await delivered(server)
    return has


async def _add_channels(boss: User, known: User) -> None:
    """Add channels that tell about runs that fail, of which there is none."""
    channel = {"url": "json://canary-channel.example/", "name": "canary channel", "events": ["failed"]}
    body_of(await boss.post("/notifications/channels", {**channel, "owner": "organization"}), 201)
    body_of(await known.post("/notifications/channels", channel), 201)


async def delivered(server: Server) -> None:
    """Wait until every message to their webhooks is sent, and that is written down."""
    async with asyncio.timeout(DEADLINE):
        while any(row["next_attempt_at"] for row in (await server.dump())["webhook_deliveries"]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the deliverer tells nobody


def _number(connection: Connection, server: Server) -> None:
    """Have their runs and users begin at numbers of their own."""
    if not server.application.database.is_shared:
        for table, first in (("runs", _FIRST_RUN), ("notification_channels", _FIRST_CHANNEL)):
            row = {"name": table, "seq": first}
            connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), row)
    else:
        numbered = {"runs": _FIRST_RUN, "users": _FIRST_USER, "notification_channels": _FIRST_CHANNEL}
        for table, first in numbered.items():
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :seq)"), {"name": table, "seq": first}
            )
    user = {"id": _FIRST_USER, "organization_id": THEIRS, "name": "canary-user", "role": "MEMBER"}
    private = {"full_name": "Canary of Canaries", "email": "canary@known.example", "created_at": server.clock.now()}
    connection.execute(insert(users), [{**user, **private}])


async def _converse(boss: User, known: User) -> None:
    """Leave runs that are completed, cancelled and paused, in sessions with names and state."""
    kept = json.dumps({"canary": "kept canary"})
    paused = plan([("delete_file", {"path": "canary/to/delete"})])
    await known.create(
        plan([("deploy", {"env": "canary-environment"})]),
        session_id=SESSIONS[0],
        session_state=kept,
        metadata=kept,
        dependencies=kept,
    )
    await known.create("canary words to the parrot", agent="other", session_id=SESSIONS[1])
    await known.create(plan([("note", {"text": "canary note"})]), session_id=SESSIONS[1])
    changes = {"session_name": "canary session", "metadata": {"is": "canary"}, "session_state": {"has": "canary"}}
    body_of(await known.request("PATCH", f"/sessions/{SESSIONS[1]}", json=changes))
    made = {"session_id": SESSIONS[2], "session_name": "canary without runs", "user_id": "canary-user"}
    body_of(await boss.post("/sessions", made), 201)
    await boss.create(paused)
    cancelled = await boss.create(paused)
    body_of(await boss.form(f"{path_of(cancelled)}/cancel"))


async def _decide(boss: User, known: User) -> None:
    """Leave runs that people have decided about, in every way there is."""
    rejected = await known.create(plan([("delete_file", {"path": "canary/to/keep"})]))
    await _continue(known, rejected, confirming(rejected, confirmed=False, confirmation_note="canary, keep it"))
    shell = await known.create(plan([("run_shell", {"command": "echo canary"})]))
    await _continue(known, shell, [{**shell["tools"][0], "result": "the canary's result"}])
    audited = await known.create(plan([("pay", {"amount": 7})]))
    await _continue(known, audited, confirming(audited))
    remembered = await known.create(plan([("publish", {"path": "canary/to/publish"})]))
    decision = {"decision": "approve", "remember": {"scope": "session"}}
    body_of(await known.post(f"/inbox/{remembered['requirements'][0]['id']}/decide", decision))
    await known.settled(remembered)
    granted = await known.create(plan([("grant", {"user": "canary", "role": "?"})]))
    approved = await known.create(plan([("deploy", {"env": "canary-production"})]))
    for run, data in ((granted, {"values": {"role": "canary-role"}}), (approved, {"note": "canary approves"})):
        (tool,) = run["tools"]
        decision = {"status": "approved", "resolution_data": data}
        body_of(await boss.post(f"/approvals/{tool['approval_id']}/resolve", decision))
    await _continue(known, approved, [])


async def _repeatable(has: Belongings, anna: User, boss: User) -> None:
    """Make requests with an Idempotency-Key that another organization can send word by word."""
    message = plan([("delete_file", {"path": "known/path"})])
    form = {"message": message}
    created = body_of(await _ask(has, anna, Asked("/agents/toolbox/runs", "known-key-create", form)))
    tools = {"tools": json.dumps([{"tool_call_id": created["tools"][0]["tool_call_id"], "confirmed": True}])}
    body_of(await _ask(has, anna, Asked(f"{path_of(created)}/continue", "known-key-continue", tools)))
    deploy = await boss.create(plan([("deploy", {"env": "known-environment"})]))
    resolve = f"/approvals/{deploy['tools'][0]['approval_id']}/resolve"
    body_of(await _ask(has, boss, Asked(resolve, "known-key-resolve", body={"status": "approved"})))
    prompt = plan([("run_shell", {"command": "known command"})])
    run = body_of(await _ask(has, anna, Asked(_RUNS, "known-key-codegen", body={"prompt": prompt})))
    hooks = [{"url": "https://canary-hooks.example/of-one-run", "secret": "canary-secret-of-one-run"}]
    body_of(await boss.post(_RUNS, {"prompt": prompt, "webhooks": hooks, "metadata": {"is": "canary"}}))
    await _paused(anna, run["id"])
    resume = {"agent_run_id": run["id"], "prompt": "known words"}
    body_of(await _ask(has, anna, Asked(f"{_RUNS}/resume", "known-key-resume", body=resume)))


async def _ask(has: Belongings, person: User, asked: Asked) -> Any:  # noqa: ANN401 - httpx's answer
    has.asked.append(asked)
    return await asked.send(person)


async def _paused(person: User, run_key: int) -> None:
    """Wait for a run that Codegen's API made: its stream, through AgentOS's, ends when it pauses."""
    run = body_of(await person.get(f"{_RUNS}/{run_key}"))
    run_id = run["web_url"].rpartition("/")[2]
    assert (await person.get(f"/agents/toolbox/runs/{run_id}/events")).status_code == 200


async def _continue(person: User, run: JsonObject, tools: list[JsonObject]) -> None:
    done = body_of(await person.form(f"{path_of(run)}/continue", tools=json.dumps(tools)))
    assert done["status"] == "COMPLETED", done


def rows_of(everything: Dump, organization: int) -> Dump:
    """Return all rows that belong to the organization, or to something that does.

    Without when its tokens were last used: that is written down some time after its own people used them.
    """
    runs = {row["id"] for row in everything["runs"] if row["organization_id"] == organization}
    sessions = {row["id"] for row in everything["sessions"] if row["organization_id"] == organization}
    found: Dump = {}
    for table, rows in everything.items():
        found[table] = [
            {column: value for column, value in row.items() if column != "last_used_at"}
            for row in rows
            if row.get("organization_id") == organization
            or row.get("run_key") in runs
            or row.get("session_key") in sessions
            or (table == "organizations" and row["id"] == organization)
        ]
    return found
