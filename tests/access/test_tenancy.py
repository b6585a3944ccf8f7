"""No sequence of requests by one organization changes or reveals anything of another one."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from random import Random
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, Phase, note, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.access.other_organization import OURS, SESSIONS, THEIRS, rows_of
from tests.access.requests_of_strangers import (
    DELETE,
    DEPLOY,
    Names,
    Question,
    Route,
    filled,
    names_in,
    rows_about,
    values_for,
)
from tests.access.two_organizations import BY_JWT, PEOPLE, Furnished, on_postgres, on_sqlite, visited
from tests.access.watch import Watch, view_of_owner
from tests.support.full import IS_FULL
from tests.support.generated import examples
from tests.support.server import Dump, Server, User
from unpause.api.permissions import PERMISSIONS, PUBLIC, is_public
from unpause.auth.tokens import PREFIX

# The application runs beside the strategies and may draw a random number while they draw.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
    # Seconds: for a machine that others use, too.
    pytest.mark.timeout(900),
]

# Sequences of requests, and how many requests each has.
USUAL_WALKS: Final = 8 if IS_FULL else 1
_ENOUGH_WALKS: Final = 8
STEPS: Final = 100 if IS_FULL else 60

_AGNO: Final = "/agents/{agent_id}/runs"
_ONE: Final = f"{_AGNO}/{{run_id}}"
_ORGANIZATION: Final = "/v1/organizations/{org_id}"
_RUN: Final = f"{_ORGANIZATION}/agent/run"
_HOOKS: Final = f"{_ORGANIZATION}/webhooks/agent-run"
_AG_UI: Final = "/agents/{agent_id}/ag-ui"
_SESSION: Final = "/sessions/{session_id}"
_APPROVAL: Final = "/approvals/{approval_id}"
_CHANNEL: Final = "/notifications/channels/{channel_id}"

# The kinds of requests. Every route there is stands in one of them.
BEGINNING: Final = (f"POST {_AGNO}", f"POST {_RUN}", f"POST {_AG_UI}")
MOVING: Final = (
    *(f"POST {_ONE}/{word}" for word in ("continue", "pause")),
    *(f"POST {_RUN}/{word}" for word in ("resume", "pause")),
    *(f"POST /runs/{{run_id}}/{word}" for word in ("resume", "pause")),
)
ENDING: Final = (
    *(f"POST {_ONE}/cancel", "POST /runs/{run_id}/cancel", "DELETE /sessions", f"DELETE {_SESSION}"),
    *(f"POST {_RUN}/{word}" for word in ("ban", "remove-from-pr", "unban")),
)
READING: Final = (
    *(f"GET {_AGNO}", f"GET {_ONE}", f"GET {_ONE}/events", f"POST {_ONE}/events/ticket", f"POST {_ONE}/resume"),
    *(f"GET {_RUN}/{{agent_run_id}}", f"GET {_RUN}s", f"GET {_RUN}/{{agent_run_id}}/logs"),
    f"GET {_AG_UI}/{{run_id}}/events",
    "GET /v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs",
    *("GET /runs", "GET /runs/{run_id}", "GET /runs/{run_id}/timeline", "GET /overview"),
    "GET /runs/{run_id}/images/{prompt_number}/{image_number}",
)
APPROVING: Final = (
    *("GET /approvals", "GET /approvals/count", f"GET {_APPROVAL}", f"GET {_APPROVAL}/status"),
    *(f"POST {_APPROVAL}/resolve", f"DELETE {_APPROVAL}"),
)
DECIDING: Final = (
    *("GET /inbox", "GET /inbox/events", "GET /inbox/{requirement_id}"),
    *("POST /inbox/{requirement_id}/decide", "POST /inbox/decide"),
)
CONVERSING: Final = (
    *("GET /sessions", "POST /sessions", f"GET {_SESSION}", f"PATCH {_SESSION}"),
    *(f"POST {_SESSION}/rename", f"GET {_SESSION}/runs", f"GET {_SESSION}/run-previews"),
    f"GET {_SESSION}/runs/{{run_id}}",
)
REMEMBERING: Final = ("GET /grants", "DELETE /grants/{grant_id}")
ADMINISTERING: Final = (
    *(f"GET {_HOOKS}", f"POST {_HOOKS}", f"DELETE {_HOOKS}", f"POST {_HOOKS}/test"),
    *("GET /notifications/channels", "POST /notifications/channels"),
    *(f"DELETE {_CHANNEL}", f"POST {_CHANNEL}/test"),
    f"POST {_ORGANIZATION}/setup-commands/generate",
    *("GET /tokens", "POST /tokens", "DELETE /tokens/{token_id}"),
    *("GET /audit", f"GET {_ORGANIZATION}/audit", f"GET {_ORGANIZATION}/users"),
    *(f"GET {_ORGANIZATION}/users/{{user_id}}", "GET /v1/users/me", "GET /me", "GET /v1/organizations"),
)
LOOKING_AROUND: Final = (
    *("GET /", "GET /health", "GET /ready", "GET /config", "GET /models", "GET /teams", "GET /workflows"),
    *("GET /agents", "GET /agents/{agent_id}", "GET /v1/mcp-providers", f"GET {_ORGANIZATION}/models"),
    *(f"GET {_ORGANIZATION}/repos", f"GET {_ORGANIZATION}/integrations", f"GET {_ORGANIZATION}/cli/rules"),
)
# What their people asked with an Idempotency-Key, once more.
REPEATING: Final = ()
# How often each kind comes. Left to itself Hypothesis would send the same kind again and again.
KINDS: Final = {
    BEGINNING: 4,
    MOVING: 6,
    READING: 6,
    APPROVING: 5,
    DECIDING: 5,
    CONVERSING: 5,
    ADMINISTERING: 4,
    ENDING: 2,
    REMEMBERING: 2,
    LOOKING_AROUND: 2,
    REPEATING: 2,
}
# Where the walks must have come with success: refusals alone would show little.
MAIN_ROAD: Final = frozenset(
    {
        *(*BEGINNING, f"GET {_AGNO}", f"GET {_RUN}s", f"GET {_RUN}/{{agent_run_id}}", f"POST {_RUN}/pause"),
        *(*APPROVING[:2], *CONVERSING[:2], f"GET {_SESSION}", f"GET {_ORGANIZATION}/users"),
    }
)

_OFTEN: Final = 3
_SUCCESS: Final = range(200, 300)
_REFUSED: Final = 400

# What may be done by nobody but an administrator leads further than a refusal now and then.
_WHO: Final = ("boss", "boss", "boss", *PEOPLE, BY_JWT)
# One draw for each request: of many small ones Hypothesis likes to repeat the same again and again.
_seeds = strategies.integers(0, 2**32)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.full)])
def furnished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Furnished]:
    """Yield both organizations in a database of each kind."""
    folder = tmp_path_factory.mktemp("furnished")
    if request.param == "sqlite":
        yield on_sqlite(folder, request.getfixturevalue("sqlite_template"))
        return
    with on_postgres(folder, request.getfixturevalue("postgres")) as furnished:
        yield furnished


class Stranger(RuleBasedStateMachine):
    """Whoever belongs to another organization, and asks for anything in any order."""

    def __init__(self, furnished: Furnished, succeeded: Counter[str]) -> None:
        super().__init__()
        self._furnished = furnished
        self._succeeded = succeeded
        self._runner = asyncio.Runner()
        self._end = asyncio.Event()
        self._server: Server
        self._watch: Watch
        self._routes = furnished.routes
        self._steps = 0
        self._rows: Dump
        self._ours = self._theirs = Names()
        self._serving = self._runner.run(self._begin())

    @initialize(message=strategies.sampled_from([DEPLOY, DELETE]))
    def have_something(self, message: str) -> None:
        """Begin a run: that of our own which most requests are about."""
        question = Question(self._routes[BEGINNING[0]], {"agent_id": "toolbox", "message": message})
        self._check("boss", question.words, self._runner.run(question.send(self._person("boss"))))

    @rule(seed=_seeds)
    def ask(self, seed: int) -> None:
        """Send a request of any kind to any route, about anything."""
        self._steps += 1
        # Not the same as in another step, even with the same seed.
        chance = Random(f"{seed} {self._steps}")  # noqa: S311 - chance, no secret
        (kind,) = chance.choices([*KINDS], [*KINDS.values()])
        who = chance.choice(_WHO)
        if kind:
            # The main road more often: a few of many kinds would not come with success by chance alone.
            (label,) = chance.choices(kind, [_OFTEN if each in MAIN_ROAD else 1 for each in kind])
            self._ask(chance, who, self._routes[label])
        else:
            self._repeat(chance, who)

    def teardown(self) -> None:
        """Have the owner look at everything once more, and stop."""
        try:
            self._runner.run(self._look_once_more())
        finally:
            self._end.set()
            self._runner.run(_ended(self._serving))
            self._runner.close()

    def _repeat(self, chance: Random, who: str) -> None:
        """Send what they sent, with the same key, to their organization or to our own."""
        asked = chance.choice(self._furnished.theirs.asked)
        path = chance.choice([asked.path, asked.path.replace(str(THEIRS), str(OURS))])
        response = self._runner.run(asked.send(self._person(who), path))
        self._check(who, f"{path} {asked}", response)

    def _ask(self, chance: Random, who: str, route: Route) -> None:
        # Of another organization than one's own everything is refused: mostly it is one's own, then.
        names = replace(self._names(chance), organizations=(OURS, OURS, OURS, OURS, THEIRS))
        optional = [each.name for each in route.fields if not each.is_required]
        chosen = chance.sample(optional, min(len(optional), chance.choice((0, 0, 0, 1, 2))))
        # Without them a continue says nothing.
        chosen += ["tools"]
        said: dict[str, Any] = {}
        for each in route.fields:
            if each.is_required or each.name in chosen:
                said[each.name] = chance.choice(values_for(route, each, names) or values_for(route, each, self._theirs))
        question = Question(route, said)
        response = self._runner.run(question.send(self._person(who)))
        note(f"{who}: {route.label} {said} -> {response.status_code}")
        self._succeeded[route.label] += response.status_code in _SUCCESS
        self._check(who, question.words, response)

    def _names(self, chance: Random) -> Names:
        """Return what a request may be about: one run of ours with all around it, things of theirs, or anything."""
        whose = chance.choice(["one of ours", "one of ours", "one of ours", "theirs", "anybody's"])
        if whose == "one of ours" and self._ours.run_keys:
            # Mostly the newest: the others have ended, mostly.
            run_key = chance.choice((self._ours.run_keys[-1], chance.choice(self._ours.run_keys)))
            return names_in(rows_about(self._rows, run_key), OURS)
        return self._theirs if whose == "theirs" else self._ours + self._theirs

    def _person(self, who: str) -> User:
        return self._server.user(self._furnished.tokens[who].removeprefix("Bearer "))

    def _check(self, who: str, words: str, response: Any) -> None:  # noqa: ANN401 - httpx's answer
        self._watch.check_answer(f"{words} {SESSIONS[0]}" if who == BY_JWT else words, response)
        self._runner.run(self._settle())

    async def _settle(self) -> None:
        await self._server.settle(OURS)
        await self._watch.check_rows()
        self._rows = rows_of(await self._server.dump(), OURS)
        self._ours = names_in(self._rows, OURS)

    async def _begin(self) -> asyncio.Task[None]:
        """Serve in a task of its own: what is opened there is closed there."""
        begun = asyncio.Event()
        task = asyncio.create_task(self._serve(begun))
        waiting = asyncio.create_task(begun.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            waiting.cancel()
            task.result()
        return task

    async def _serve(self, begun: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            folder, url = stack.enter_context(self._furnished.copies())
            self._server, self._watch = await stack.enter_async_context(visited(self._furnished, folder, url))
            self._theirs = names_in(self._watch.rows, THEIRS)
            if not self._furnished.view:
                self._furnished.view.update(await view_of_owner(self._server, self._furnished.theirs.admin))
            await self._settle()
            begun.set()
            await self._end.wait()

    async def _look_once_more(self) -> None:
        assert await view_of_owner(self._server, self._furnished.theirs.admin) == self._furnished.view


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def test_every_route_is_asked_by_the_walks(furnished: Furnished) -> None:
    asked = [label for labels in KINDS for label in labels]

    assert sorted(asked) == sorted(furnished.routes)
    # Those that are in no document are the document itself, pages about it, and the console.
    assert {route for route in PERMISSIONS if not is_public(route.partition(" ")[2])} <= set(asked)
    assert {f"GET {path}" for path in PUBLIC - {"/", "/health", "/ready"}}.isdisjoint(asked)


def test_no_sequence_of_requests_changes_or_reveals_what_another_organization_has(
    furnished: Furnished,
) -> None:
    succeeded: Counter[str] = Counter()

    class Walk(Stranger):
        def __init__(self) -> None:
            super().__init__(furnished, succeeded)

    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=examples(USUAL_WALKS),
            stateful_step_count=STEPS,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )

    if examples(USUAL_WALKS) >= _ENOUGH_WALKS:
        assert not sorted(MAIN_ROAD - set(+succeeded))


@pytest.mark.parametrize(
    "who", ["boss", *(pytest.param(who, marks=pytest.mark.full) for who in PEOPLE if who != "boss")]
)
async def test_what_another_organization_has_is_told_from_what_does_not_exist_by_no_route(
    furnished: Furnished, who: str
) -> None:
    with furnished.copies() as (folder, url):
        async with visited(furnished, folder, url) as (server, watch):
            stranger = server.user(furnished.tokens[who].removeprefix("Bearer "))
            theirs = names_in(watch.rows, THEIRS)
            theirs, nowhere = (
                replace(names, organizations=(OURS,), agents=theirs.agents) for names in (theirs, theirs.nowhere())
            )
            texts = list(zip(nowhere.texts(), theirs.texts(), strict=True))
            # First what only reads: later there are things of our own under their names, which differ.
            routes = sorted(furnished.routes.values(), key=lambda route: route.method != "GET")
            for route in routes:
                for question, other in _pairs(route, theirs, nowhere, 1 if who == "boss" and IS_FULL else 5):
                    response, twin = await question.send(stranger), await other.send(stranger)
                    watch.check_answer(question.words, response)
                    told = twin.text
                    for made_up, true in texts:
                        told = told.replace(made_up, true)
                    assert response.status_code == twin.status_code, (question, response.text, twin.text)
                    if route.method == "GET" or twin.status_code >= _REFUSED:
                        assert response.text == told, question
                await server.settle(OURS)
                await watch.check_rows()


def _pairs(route: Route, theirs: Names, nowhere: Names, step: int) -> Iterator[tuple[Question, Question]]:
    """Yield requests about every ``step``-th thing of theirs, each beside the same one about what does not exist."""
    named = [values_for(route, each, theirs) for each in route.fields if each.is_required]
    most = max((len(values) for values in named), default=1)
    yield from ((filled(route, theirs, number), filled(route, nowhere, number)) for number in range(0, most, step))
    for each in route.fields:
        if not each.is_required:
            # Not all: every status that a run may have is not of interest in every field.
            numbers = range(min(3 if step == 1 else 1, len(values_for(route, each, theirs))))
            yield from ((filled(route, theirs, n, each.name), filled(route, nowhere, n, each.name)) for n in numbers)


async def test_the_path_of_another_organization_is_forbidden_whether_it_exists_or_not(furnished: Furnished) -> None:
    with furnished.copies() as (folder, url):
        async with visited(furnished, folder, url) as (server, watch):
            boss = server.user(furnished.tokens["boss"].removeprefix("Bearer "))
            theirs = names_in(watch.rows, THEIRS)
            paths = [route for route in furnished.routes.values() if "{org_id}" in route.path]
            assert len(paths) > len(MOVING)
            for route in paths:
                for names in (theirs, replace(theirs.nowhere(), agents=theirs.agents)):
                    response = await filled(route, names, 0).send(boss)
                    assert response.status_code == 403
                    assert response.json() == {
                        "message": "You do not have access to this organization.",
                        "status_code": 403,
                    }
                    watch.check_answer(json.dumps(route.label), response)
            await watch.check_rows()


async def test_what_is_known_of_their_tokens_opens_nothing(furnished: Furnished) -> None:
    with furnished.copies() as (folder, url):
        async with visited(furnished, folder, url) as (server, watch):
            secret = furnished.tokens["boss"].rpartition(".")[2]
            for row in watch.rows["tokens"]:
                for text in (f"{PREFIX}{row['id']}.{secret}", row["hash"], row["id"], f"{PREFIX}{row['id']}"):
                    for path in ("/sessions", f"/v1/organizations/{THEIRS}/agent/runs"):
                        assert (await server.user(text).get(path)).status_code == 401
            await watch.check_rows()
