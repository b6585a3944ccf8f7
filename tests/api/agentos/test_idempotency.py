"""Requests with an Idempotency-Key: sent again, they do nothing again and answer the same."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.caller import CODEGEN, RUNS, body_of, confirming, path_of
from tests.support.gates import Gates
from tests.support.server import Server, SettableClock, served
from tests.support.toolbox import DEPLOY, JsonObject, plan
from unpause.services.idempotency import OldRequests

DELETE = plan([("delete_file", {"path": "a"})])


async def runs_of(server: Server) -> int:
    """Return how many runs there are."""
    return len((await server.dump())["runs"])


async def codegen(server: Server, path: str, key: str, **body: object) -> httpx.Response:
    """Send a request of Codegen's API with a key."""
    return await server.client.post(f"{CODEGEN}{path}", json=body, headers={"Idempotency-Key": key})


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_create_sent_again_makes_no_second_run_and_answers_the_same(server: Server, stream: str) -> None:
    first = await server.form(RUNS, "k", message=DELETE, stream=stream)
    again = await server.form(RUNS, "k", message=DELETE, stream=stream)
    assert first.status_code == again.status_code == 200
    assert again.text == first.text
    assert again.headers["content-type"] == first.headers["content-type"]
    assert await runs_of(server) == 1


async def test_a_create_sent_again_after_the_run_went_on_still_answers_as_it_did(server: Server) -> None:
    first = await server.form(RUNS, "k", message=DELETE)
    run = body_of(first)
    await server.continued(run, confirming(run))
    assert (await server.form(RUNS, "k", message=DELETE)).text == first.text


async def test_a_create_in_the_background_sent_again_names_the_same_run(server: Server) -> None:
    answers = [await server.form(RUNS, "k", message=DELETE, background="true") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].text == answers[1].text
    assert await runs_of(server) == 1


async def test_creates_with_one_key_at_once_make_one_run_and_answer_the_same(server: Server) -> None:
    answers = await asyncio.gather(*(server.form(RUNS, "k", message=DELETE) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({body_of(answer)["run_id"] for answer in answers}) == 1
    assert {body_of(answer)["status"] for answer in answers} == {"PAUSED"}
    assert await runs_of(server) == 1


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
async def test_a_key_used_with_another_create_is_refused(server: Server, form: dict[str, str]) -> None:
    await server.form(RUNS, "k", message=DELETE)
    async with server.nothing_changes():
        refused = await server.form(RUNS, "k", **form)
    assert refused.status_code == 422
    assert refused.json() == {"detail": "This Idempotency-Key was used before with another request"}


async def test_a_key_used_for_another_route_is_refused(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    await server.form(RUNS, "k", message=DELETE)
    async with server.nothing_changes():
        assert (await server.post_continue(run, key="k")).status_code == 422
        assert (await server.resolve(approval, key="k")).status_code == 422
        refused = await codegen(server, "", "k", prompt="hello")
        assert refused.status_code == 422
        assert refused.json() == {
            "message": "This Idempotency-Key was used before with another request",
            "status_code": 422,
        }


@pytest.mark.parametrize("stream", ["true", "false"])
async def test_a_continue_sent_again_runs_nothing_again_and_answers_the_same(server: Server, stream: str) -> None:
    run = await server.create(DELETE)
    answers = [await server.post_continue(run, confirming(run), "k", stream=stream) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert server.executed == ["delete_file(a)"]
    assert (await server.post_continue(run, confirming(run))).status_code == 409


async def test_continues_with_one_key_at_once_run_the_tool_once_and_all_succeed(server: Server) -> None:
    run = await server.create(DELETE)
    answers = await asyncio.gather(*(server.post_continue(run, confirming(run), "k") for _ in range(10)))
    assert {body_of(answer)["status"] for answer in answers} == {"COMPLETED"}
    assert server.executed == ["delete_file(a)"]


async def test_a_continue_sent_again_while_it_is_under_way_waits_for_the_same_end(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server, asyncio.TaskGroup() as tasks:
        run = await server.create(plan([("hold", {"name": "door"})]))
        first = tasks.create_task(server.post_continue(run, confirming(run), "k"))
        await gates.reached("door")
        again = tasks.create_task(server.post_continue(run, confirming(run), "k"))
        assert (await server.read(run))["status"] == "RUNNING"
        gates.open("door")
        assert (await again).text == (await first).text
        assert server.executed == ["hold(door)"]


async def test_a_partial_continue_sent_again_answers_the_same(server: Server) -> None:
    run = await server.create(plan([("delete_file", {"path": "a"}), ("delete_file", {"path": "b"})]))
    some = confirming(run)[:1]
    first = await server.post_continue(run, some, "k")
    assert body_of(first)["status"] == "PAUSED"
    async with server.nothing_changes():
        assert (await server.post_continue(run, some, "k")).text == first.text


async def test_a_key_with_another_continue_is_refused(server: Server) -> None:
    run = await server.create(DELETE)
    await server.post_continue(run, confirming(run), "k")
    assert (await server.post_continue(run, confirming(run, confirmed=False), "k")).status_code == 422


async def test_a_refused_request_does_not_use_its_key_up(server: Server) -> None:
    run = await server.create(DELETE)
    async with server.nothing_changes():
        assert (await server.post_continue(run, "", "k")).status_code == 400
    assert body_of(await server.post_continue(run, confirming(run), "k"))["status"] == "COMPLETED"


async def test_a_decision_sent_again_answers_the_same(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    first = await server.resolve(approval, key="k", resolved_by="root")
    server.clock.move(5)
    assert (await server.resolve(approval, key="k", resolved_by="root")).text == first.text
    assert (await server.resolve(approval, "rejected", key="k", resolved_by="root")).status_code == 422
    assert (await server.resolve(approval, resolved_by="root")).status_code == 409


async def test_a_decision_sent_again_after_the_run_went_on_still_answers_as_it_did(server: Server) -> None:
    run = await server.create(DEPLOY)
    approval = await server.approval_of(run)
    first = await server.resolve(approval, key="k")
    await server.continued(run)
    assert (await server.resolve(approval, key="k")).text == first.text


async def test_codegens_create_and_resume_sent_again_do_nothing_again(server: Server) -> None:
    made = [await codegen(server, "", "create", prompt=DELETE) for _ in range(3)]
    assert len({answer.text for answer in made}) == 1
    key = body_of(made[0])["id"]
    run = {"run_id": body_of(made[0])["web_url"].rsplit("/", 1)[1]}
    await server.settled(run)
    assert (await codegen(server, "", "create", prompt=DELETE)).text == made[0].text
    resumed = [await codegen(server, "/resume", "resume", agent_run_id=key, prompt="no") for _ in range(2)]
    await server.settled(run)
    resumed.append(await codegen(server, "/resume", "resume", agent_run_id=key, prompt="no"))
    assert {answer.status_code for answer in resumed} == {200}
    assert len({answer.text for answer in resumed}) == 1
    assert await runs_of(server) == 1
    assert [row["position"] for row in (await server.dump())["inputs"]] == [1]
    other = await codegen(server, "/resume", "resume", agent_run_id=key, prompt="yes")
    assert other.status_code == 422


async def test_an_answer_outlives_a_restart(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        first = [await server.form(RUNS, f"k-{stream}", message=DELETE, stream=stream) for stream in ("true", "false")]
    async with served(tmp_path) as server:
        again = [await server.form(RUNS, f"k-{stream}", message=DELETE, stream=stream) for stream in ("true", "false")]
        assert [answer.text for answer in again] == [answer.text for answer in first]
        assert await runs_of(server) == 2


async def test_a_key_is_forgotten_after_its_time(tmp_path: Path) -> None:
    clock = SettableClock()
    async with served(tmp_path, clock=clock, idempotency_seconds=100.0) as server:
        [old] = [each for each in server.application.engine.calm_sweeps if isinstance(each, OldRequests)]
        first = body_of(await server.form(RUNS, "k", message=DELETE))
        clock.move(99)
        assert await old.sweep() == 0
        assert body_of(await server.form(RUNS, "k", message=DELETE))["run_id"] == first["run_id"]
        clock.move(2)
        assert await old.sweep() == 1
        assert (await server.dump())["idempotency_keys"] == []
        assert body_of(await server.form(RUNS, "k", message=DELETE))["run_id"] != first["run_id"]


async def test_different_keys_are_different_requests(server: Server) -> None:
    first, second = [body_of(await server.form(RUNS, key, message=DELETE)) for key in ("a", "b")]
    assert first["run_id"] != second["run_id"]


async def test_a_key_that_cannot_be_one_is_refused_everywhere(server: Server) -> None:
    for key in ("", "   ", "x" * 256, "a\tb", "a\x7fb"):
        run = await server.create(DEPLOY)
        approval = await server.approval_of(run)
        async with server.nothing_changes():
            answers: list[httpx.Response] = [
                await server.form(RUNS, key, message=DELETE),
                await server.form(f"{path_of(run)}/continue", key),
                await server.resolve(approval, key=key),
                await codegen(server, "", key, prompt="x"),
                await codegen(server, "/resume", key, agent_run_id=1, prompt="x"),
            ]
        assert {answer.status_code for answer in answers} == {400}
        sent: list[JsonObject] = [answer.json() for answer in answers]
        texts = [body.get("detail", body.get("message")) for body in sent]
        assert set(texts) == {"Idempotency-Key must be 1 to 255 printable characters"}
