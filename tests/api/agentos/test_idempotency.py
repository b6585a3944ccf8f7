"""Requests with an Idempotency-Key: sent again, they do nothing again and answer the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.gates import Gates
from tests.support.office import (
    CODEGEN,
    DEPLOY,
    RUNS,
    JsonObject,
    Office,
    SettableClock,
    at_office,
    body_of,
    confirming,
    path_of,
    plan,
)

DELETE = plan([("delete_file", {"path": "a"})])


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with at_office(tmp_path) as office:
        yield office


async def runs_of(office: Office) -> int:
    """Return how many runs there are."""
    return len((await office.dump())["runs"])


async def codegen(office: Office, path: str, key: str, **body: object) -> httpx.Response:
    """Send a request of Codegen's API with a key."""
    return await office.client.post(f"{CODEGEN}{path}", json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_create_sent_again_makes_no_second_run_and_answers_the_same(office: Office, stream: str) -> None:
    first = await office.post(RUNS, "k", message=DELETE, stream=stream)
    again = await office.post(RUNS, "k", message=DELETE, stream=stream)
    assert first.status_code == again.status_code == 200
    assert again.text == first.text
    assert again.headers["content-type"] == first.headers["content-type"]
    assert await runs_of(office) == 1


async def test_a_create_sent_again_after_the_run_went_on_still_answers_as_it_did(office: Office) -> None:
    first = await office.post(RUNS, "k", message=DELETE)
    run = body_of(first)
    await office.continued(run, confirming(run))
    assert (await office.post(RUNS, "k", message=DELETE)).text == first.text


async def test_a_create_in_the_background_sent_again_names_the_same_run(office: Office) -> None:
    answers = [await office.post(RUNS, "k", message=DELETE, background="true") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].text == answers[1].text
    assert await runs_of(office) == 1


async def test_creates_with_one_key_at_once_make_one_run_and_answer_the_same(office: Office) -> None:
    answers = await asyncio.gather(*(office.post(RUNS, "k", message=DELETE) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({body_of(answer)["run_id"] for answer in answers}) == 1
    assert {body_of(answer)["status"] for answer in answers} == {"PAUSED"}
    assert await runs_of(office) == 1


@pytest.mark.parametrize(
    "form",
    [
        {"message": "something else"},
        {"message": DELETE, "stream": "true"},
        {"message": DELETE, "session_id": "other"},
        {"message": DELETE, "user_id": "eve"},
        {"message": DELETE, "background": "true"},
    ],
)
async def test_a_key_used_with_another_create_is_refused(office: Office, form: dict[str, str]) -> None:
    await office.post(RUNS, "k", message=DELETE)
    async with office.nothing_changes():
        refused = await office.post(RUNS, "k", **form)
    assert refused.status_code == 422
    assert refused.json() == {"detail": "This Idempotency-Key was used before with another request"}


async def test_a_key_used_for_another_route_is_refused(office: Office) -> None:
    run = await office.create(DEPLOY)
    approval = await office.approval_of(run)
    await office.post(RUNS, "k", message=DELETE)
    async with office.nothing_changes():
        assert (await office.post_continue(run, key="k")).status_code == 422
        assert (await office.resolve(approval, key="k")).status_code == 422
        refused = await codegen(office, "", "k", prompt="hello")
        assert refused.status_code == 422
        assert refused.json() == {
            "message": "This Idempotency-Key was used before with another request",
            "status_code": 422,
        }


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_continue_sent_again_runs_nothing_again_and_answers_the_same(office: Office, stream: str) -> None:
    run = await office.create(DELETE)
    answers = [await office.post_continue(run, confirming(run), "k", stream=stream) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert office.executed == ["delete_file(a)"]
    assert (await office.post_continue(run, confirming(run))).status_code == 409


async def test_continues_with_one_key_at_once_run_the_tool_once_and_all_succeed(office: Office) -> None:
    run = await office.create(DELETE)
    answers = await asyncio.gather(*(office.post_continue(run, confirming(run), "k") for _ in range(10)))
    assert {body_of(answer)["status"] for answer in answers} == {"COMPLETED"}
    assert office.executed == ["delete_file(a)"]


async def test_a_continue_sent_again_while_it_is_under_way_waits_for_the_same_end(tmp_path: Path) -> None:
    gates = Gates("door")
    async with at_office(tmp_path, gates=gates) as office, asyncio.TaskGroup() as tasks:
        run = await office.create(plan([("hold", {"name": "door"})]))
        first = tasks.create_task(office.post_continue(run, confirming(run), "k"))
        await gates.reached("door")
        again = tasks.create_task(office.post_continue(run, confirming(run), "k"))
        assert (await office.get(run))["status"] == "RUNNING"
        gates.open("door")
        assert (await again).text == (await first).text
        assert office.executed == ["hold(door)"]


async def test_a_partial_continue_sent_again_answers_the_same(office: Office) -> None:
    run = await office.create(plan([("delete_file", {"path": "a"}), ("delete_file", {"path": "b"})]))
    some = confirming(run)[:1]
    first = await office.post_continue(run, some, "k")
    assert body_of(first)["status"] == "PAUSED"
    async with office.nothing_changes():
        assert (await office.post_continue(run, some, "k")).text == first.text


async def test_a_key_with_another_continue_is_refused(office: Office) -> None:
    run = await office.create(DELETE)
    await office.post_continue(run, confirming(run), "k")
    assert (await office.post_continue(run, confirming(run, confirmed=False), "k")).status_code == 422


async def test_a_refused_request_does_not_use_its_key_up(office: Office) -> None:
    run = await office.create(DELETE)
    async with office.nothing_changes():
        assert (await office.post_continue(run, "", "k")).status_code == 400
    assert body_of(await office.post_continue(run, confirming(run), "k"))["status"] == "COMPLETED"


async def test_a_decision_sent_again_answers_the_same(office: Office) -> None:
    run = await office.create()
    approval = await office.approval_of(run)
    first = await office.resolve(approval, key="k", resolved_by="root")
    office.clock.move(5)
    assert (await office.resolve(approval, key="k", resolved_by="root")).text == first.text
    assert (await office.resolve(approval, "rejected", key="k", resolved_by="root")).status_code == 422
    assert (await office.resolve(approval, resolved_by="root")).status_code == 409


async def test_a_decision_sent_again_after_the_run_went_on_still_answers_as_it_did(office: Office) -> None:
    run = await office.create()
    approval = await office.approval_of(run)
    first = await office.resolve(approval, key="k")
    await office.continued(run)
    assert (await office.resolve(approval, key="k")).text == first.text


async def test_codegens_create_and_resume_sent_again_do_nothing_again(office: Office) -> None:
    made = [await codegen(office, "", "create", prompt=DELETE) for _ in range(3)]
    assert len({answer.text for answer in made}) == 1
    key = body_of(made[0])["id"]
    run = {"run_id": body_of(made[0])["web_url"].rsplit("/", 1)[1]}
    await office.settled(run)
    assert (await codegen(office, "", "create", prompt=DELETE)).text == made[0].text
    resumed = [await codegen(office, "/resume", "resume", agent_run_id=key, prompt="no") for _ in range(2)]
    await office.settled(run)
    resumed.append(await codegen(office, "/resume", "resume", agent_run_id=key, prompt="no"))
    assert {answer.status_code for answer in resumed} == {200}
    assert len({answer.text for answer in resumed}) == 1
    assert await runs_of(office) == 1
    assert len((await office.dump())["inputs"]) == 2
    other = await codegen(office, "/resume", "resume", agent_run_id=key, prompt="yes")
    assert other.status_code == 422


async def test_an_answer_outlives_a_restart(tmp_path: Path) -> None:
    async with at_office(tmp_path) as office:
        first = [await office.post(RUNS, f"k-{stream}", message=DELETE, stream=stream) for stream in ("true", "false")]
    async with at_office(tmp_path) as office:
        again = [await office.post(RUNS, f"k-{stream}", message=DELETE, stream=stream) for stream in ("true", "false")]
        assert [answer.text for answer in again] == [answer.text for answer in first]
        assert await runs_of(office) == 2


async def test_a_key_is_forgotten_after_its_time(tmp_path: Path) -> None:
    clock = SettableClock()
    async with at_office(tmp_path, clock, idempotency_seconds=100.0) as office:
        first = body_of(await office.post(RUNS, "k", message=DELETE))
        await office.sweep_after(99)
        assert body_of(await office.post(RUNS, "k", message=DELETE))["run_id"] == first["run_id"]
        await office.sweep_after(2)
        assert (await office.dump())["idempotency_keys"] == []
        assert body_of(await office.post(RUNS, "k", message=DELETE))["run_id"] != first["run_id"]


async def test_different_keys_are_different_requests(office: Office) -> None:
    first, second = [body_of(await office.post(RUNS, key, message=DELETE)) for key in ("a", "b")]
    assert first["run_id"] != second["run_id"]


@pytest.mark.parametrize("key", ["", "   ", "x" * 256, "a\tb", "a\x7fb"])
async def test_a_key_that_cannot_be_one_is_refused_everywhere(office: Office, key: str) -> None:
    run = await office.create()
    approval = await office.approval_of(run)
    async with office.nothing_changes():
        answers: list[httpx.Response] = [
            await office.post(RUNS, key, message=DELETE),
            await office.post(f"{path_of(run)}/continue", key),
            await office.resolve(approval, key=key),
            await codegen(office, "", key, prompt="x"),
            await codegen(office, "/resume", key, agent_run_id=1, prompt="x"),
        ]
    assert {answer.status_code for answer in answers} == {400}
    said: list[JsonObject] = [answer.json() for answer in answers]
    texts = [body.get("detail", body.get("message")) for body in said]
    assert set(texts) == {"Idempotency-Key must be 1 to 255 printable characters"}
