"""What one token may ask for in a window of time, and what each answer says of it."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import select

from tests.support.databases import MIGRATED, NOW, PostgresServer
from tests.support.limited import BUCKETS, LimitedServer, served_with_buckets
from tests.support.server import SettableClock
from unpause.settings import Settings
from unpause.store.tables import rate_counts

TOO_MANY = {"message": "Rate limit exceeded. Please try again later.", "status_code": 429}

# Requests and seconds of each bucket, when nothing is set.
DEFAULTS = {
    "create": (10, 60),
    "read": (60, 30),
    "logs": (60, 60),
    "resume": (60, 60),
    "change": (30, 60),
    "setup": (5, 60),
    "webhook_test": (10, 60),
}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.on_postgresql)])
def database(request: pytest.FixtureRequest, clock: SettableClock) -> Iterator[dict[str, str]]:
    """Yield the settings of a database: the one that each process has for itself, or the one that all share."""
    if request.param == "sqlite":
        yield {}
        return
    with request.getfixturevalue("postgres").migrated_database() as url:
        clock.set_database(url)
        yield {"database_url": url}


@pytest.fixture
def shared(postgres: PostgresServer) -> Iterator[dict[str, str]]:
    with postgres.migrated_database() as url:
        yield {"database_url": url}


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOW)


@pytest.fixture
async def server(tmp_path: Path, clock: SettableClock, database: dict[str, str]) -> AsyncIterator[LimitedServer]:
    async with served_with_buckets(tmp_path, clock, **database) as server:
        yield server


@pytest.fixture
async def alone(tmp_path: Path, clock: SettableClock) -> AsyncIterator[LimitedServer]:
    async with served_with_buckets(tmp_path, clock) as server:
        yield server


def sent(response: httpx.Response) -> tuple[str | None, str | None, str | None]:
    """Return the three header fields."""
    names = ("ratelimit-policy", "ratelimit", "retry-after")
    policy, limit, retry_after = (response.headers.get(name) for name in names)
    return policy, limit, retry_after


async def statuses(server: LimitedServer, times: int, bearer: str = "t") -> list[int]:
    """Return how as many requests to the bucket of five a minute are answered, one after the other."""
    return [(await server.ask("setup", bearer)).status_code for _ in range(times)]


@pytest.mark.parametrize(("bucket", "limit"), DEFAULTS.items())
async def test_each_bucket_lets_as_many_through_as_the_contract_says(
    alone: LimitedServer, bucket: str, limit: tuple[int, int]
) -> None:
    quota, window = limit
    for number in range(1, quota + 1):
        response = await alone.ask(bucket)
        assert (response.status_code, response.json()) == (200, {"n": 1})
        assert sent(response) == (f'"{bucket}";q={quota};w={window}', f'"{bucket}";r={quota - number};t={window}', None)
    refused = await alone.ask(bucket)
    assert (refused.status_code, refused.json()) == (429, TOO_MANY)
    assert sent(refused) == (f'"{bucket}";q={quota};w={window}', f'"{bucket}";r=0;t={window}', str(window))
    assert len(alone.executed) == quota


def test_the_buckets_are_those_of_the_settings() -> None:
    names = {name.removeprefix("rate_limit_") for name in Settings.model_fields if name.startswith("rate_limit_")}
    # The others are the console's and AG-UI's own.
    assert names == {*DEFAULTS, "sign_in", "ag_ui"}


async def test_a_used_up_bucket_leaves_the_others_full(server: LimitedServer) -> None:
    assert await statuses(server, 6) == [200] * 5 + [429]
    for bucket in DEFAULTS:
        expected = 429 if bucket == "setup" else 200
        assert (await server.ask(bucket)).status_code == expected


@pytest.mark.sql
async def test_the_next_window_begins_when_the_first_is_over(server: LimitedServer, clock: SettableClock) -> None:
    assert await statuses(server, 5) == [200] * 5
    clock.move(18)
    assert sent(await server.ask("setup")) == ('"setup";q=5;w=60', '"setup";r=0;t=42', "42")
    clock.move(41.7)
    assert sent(await server.ask("setup"))[2] == "1"
    clock.move(0.3)
    response = await server.ask("setup")
    assert (response.status_code, sent(response)) == (200, ('"setup";q=5;w=60', '"setup";r=4;t=60', None))


@pytest.mark.parametrize("later", [0.0, 0.000001, 0.5, 17.3, 58.999999, 59.000001, 59.999999])
async def test_who_waits_as_long_as_was_said_and_no_longer_is_let_through(
    alone: LimitedServer, clock: SettableClock, later: float
) -> None:
    assert await statuses(alone, 5) == [200] * 5
    clock.move(later)
    refused = await alone.ask("setup")
    wait = int(refused.headers["retry-after"])
    assert 1 <= wait < 61 - later
    clock.move(wait)
    assert await statuses(alone, 1) == [200]


async def test_what_is_refused_makes_the_wait_no_longer(server: LimitedServer, clock: SettableClock) -> None:
    assert await statuses(server, 5) == [200] * 5
    for left in (60, 40, 20):
        assert sent(await server.ask("setup"))[2] == str(left)
        clock.move(20)
    assert await statuses(server, 6) == [200] * 5 + [429]


@pytest.mark.sql
async def test_a_clock_that_was_put_back_sends_nobody_to_sleep_for_long(
    server: LimitedServer, clock: SettableClock
) -> None:
    assert await statuses(server, 6) == [200] * 5 + [429]
    clock.move(-3600)
    wait = sent(await server.ask("setup"))[2]
    # Where the window is the process's own it begins anew; where it is shared, the wait is that of a whole one.
    assert wait in {None, "60"}


async def test_two_tokens_do_not_share(server: LimitedServer) -> None:
    assert await statuses(server, 6, bearer="one") == [200] * 5 + [429]
    assert await statuses(server, 6, bearer="other") == [200] * 5 + [429]


@pytest.mark.parametrize("authorization", ["bearer one", "Bearer   one ", "one"])
async def test_a_token_is_the_same_however_it_is_sent(alone: LimitedServer, authorization: str) -> None:
    assert await statuses(alone, 5, bearer="one") == [200] * 5
    response = await alone.client.post(f"{BUCKETS}/setup", json={"n": 1}, headers={"Authorization": authorization})
    assert response.status_code == 429


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "bearer"])
async def test_who_has_no_token_is_not_limited(alone: LimitedServer, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for _ in range(20):
        response = await alone.client.post(f"{BUCKETS}/setup", json={"n": 1}, headers=headers)
        assert (response.status_code, sent(response)) == (200, (None, None, None))


async def test_only_a_hash_of_the_token_is_kept(tmp_path: Path, clock: SettableClock, shared: dict[str, str]) -> None:
    async with served_with_buckets(tmp_path, clock, **shared) as server:
        await server.ask("setup", bearer="very-secret")
        [row] = await server.application.database.read(lambda connection: connection.execute(select(rate_counts)).all())
    assert "very-secret" not in repr(row)
    assert hashlib.sha256(b"very-secret").hexdigest() in row.key


async def test_an_empty_text_lifts_a_limit(tmp_path: Path, clock: SettableClock, database: dict[str, str]) -> None:
    async with served_with_buckets(tmp_path, clock, rate_limit_setup="", **database) as server:
        for _ in range(20):
            response = await server.ask("setup")
            assert (response.status_code, sent(response)) == (200, (None, None, None))
        assert sent(await server.ask("create"))[1] == '"create";r=9;t=60'


async def test_a_limit_may_be_set(tmp_path: Path, clock: SettableClock) -> None:
    async with served_with_buckets(tmp_path, clock, rate_limit_setup="2 per 90 seconds") as server:
        assert await statuses(server, 3) == [200, 200, 429]
        assert sent(await server.ask("setup")) == ('"setup";q=2;w=90', '"setup";r=0;t=90', "90")


@pytest.mark.parametrize(
    "text",
    [
        "ten/minute",
        "10",
        "10/fortnight",
        "-1/minute",
        "10/1.5 minutes",
        "10/minute; 100/hour",
        "0/minute",
        "2000000000/minute",
        "10/400 days",
    ],
)
@pytest.mark.parametrize("bucket", ["create", "webhook_test"])
def test_a_text_that_is_no_limit_is_refused_by_the_name_of_its_setting(text: str, bucket: str) -> None:
    values: dict[str, Any] = {f"rate_limit_{bucket}": text}
    with pytest.raises(ValidationError) as refused:
        Settings(**values)
    [error] = refused.value.errors()
    assert error["loc"] == (f"rate_limit_{bucket}",)


async def test_a_body_that_does_not_fit_counts(server: LimitedServer) -> None:
    for left in (4, 3):
        response = await server.ask("setup", json={"n": "many"})
        assert (response.status_code, sent(response)[1]) == (422, f'"setup";r={left};t=60')
    assert await statuses(server, 4) == [200] * 3 + [429]
    response = await server.ask("setup", json={"n": "many"})
    assert (response.status_code, response.json()) == (429, TOO_MANY)


async def test_a_body_that_is_no_json_counts(server: LimitedServer) -> None:
    headers = {"Authorization": "Bearer t", "Content-Type": "application/json"}
    for left in (4, 3, 2, 1, 0):
        response = await server.client.post(f"{BUCKETS}/setup", content=b"{", headers=headers)
        assert (response.status_code, response.json()["detail"][0]["type"]) == (422, "json_invalid")
        assert sent(response)[1] == f'"setup";r={left};t=60'
    response = await server.client.post(f"{BUCKETS}/setup", content=b"{", headers=headers)
    assert (response.status_code, response.json()) == (429, TOO_MANY)
    assert await statuses(server, 1) == [429]


async def test_what_the_route_refuses_counts_and_says_so(server: LimitedServer) -> None:
    response = await server.ask("setup", json={"n": -1})
    assert (response.status_code, sent(response)[1]) == (400, '"setup";r=4;t=60')


async def test_who_may_not_ask_in_an_organization_hears_that_first_and_is_not_counted(server: LimitedServer) -> None:
    assert await statuses(server, 6) == [200] * 5 + [429]
    path = f"{BUCKETS}/setup".replace("/organizations/1/", "/organizations/2/")
    for token in ("t", "other"):
        response = await server.client.post(path, json={"n": 1}, headers={"Authorization": f"Bearer {token}"})
        assert (response.status_code, sent(response)) == (403, (None, None, None))
    assert sent(await server.ask("setup", bearer="other"))[1] == '"setup";r=4;t=60'


@pytest.mark.sql
async def test_of_fifty_requests_at_once_ten_pass(server: LimitedServer) -> None:
    responses = await asyncio.gather(*(server.ask("create") for _ in range(50)))
    passed = [response for response in responses if response.status_code == 200]
    assert (len(passed), len(server.executed)) == (10, 10)
    assert sorted(read_remaining(response) for response in passed) == list(range(10))
    assert [response.status_code for response in responses].count(429) == 40


def read_remaining(response: httpx.Response) -> int:
    found = re.fullmatch(r'"\w+";r=(\d+);t=\d+', response.headers["ratelimit"])
    assert found is not None
    return int(found[1])


async def test_two_processes_with_one_database_count_together(
    tmp_path: Path, clock: SettableClock, shared: dict[str, str]
) -> None:
    async with (
        served_with_buckets(tmp_path, clock, **shared) as first,
        served_with_buckets(tmp_path, clock, **shared) as second,
    ):
        servers = (first, second)
        responses = await asyncio.gather(*(servers[number % 2].ask("create") for number in range(50)))
        assert [response.status_code for response in responses].count(200) == 10
        assert len(first.executed) + len(second.executed) == 10
        clock.move(60)
        assert await statuses(first, 3) == [200] * 3
        assert await statuses(second, 3) == [200, 200, 429]
    async with served_with_buckets(tmp_path, clock, **shared) as restarted:
        assert await statuses(restarted, 1) == [429]


async def test_a_limit_that_was_changed_begins_to_count_anew(
    tmp_path: Path, clock: SettableClock, shared: dict[str, str]
) -> None:
    async with served_with_buckets(tmp_path, clock, **shared) as server:
        assert await statuses(server, 6) == [200] * 5 + [429]
    async with served_with_buckets(tmp_path, clock, rate_limit_setup="6/minute", **shared) as server:
        assert await statuses(server, 7) == [200] * 6 + [429]


async def test_without_its_database_a_server_answers_503_and_lets_nothing_through(
    tmp_path: Path, clock: SettableClock, postgres: PostgresServer
) -> None:
    async with AsyncExitStack() as stack:
        with postgres.database(MIGRATED) as url:
            server = await stack.enter_async_context(
                served_with_buckets(tmp_path, clock, database_url=url, sweep_seconds=3600)
            )
            assert await statuses(server, 1) == [200]
        for _ in range(2):
            response = await server.ask("setup")
            assert (response.status_code, response.json()["status_code"]) == (503, 503)
            assert sent(response) == (None, None, "1")
            # What asks the database for more than a count is answered the same way.
            response = await server.client.get("/v1/organizations/1/agent/run/1")
            assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert (await server.client.get("/ready")).status_code == 503
        assert len(server.executed) == 1
