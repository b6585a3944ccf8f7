"""Run ids are the client's: the same one again is the same run, followed again from any frame."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path

import httpx

from tests.support.ag_ui import AgUiThread, Stream, read_stream, yes
from tests.support.caller import body_of, refusal
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import plan

DELETE = ("delete_file", {"path": "/a"})
NOTE = ("note", {"text": "x"})


async def test_the_same_request_again_streams_the_same_run(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([NOTE], runId="mine")
    del thread.messages[1:]
    again = await thread.send(runId="mine")
    assert again.events == first.events
    assert server.executed == ["note(x)"]


async def test_a_run_id_that_was_used_with_something_else_is_refused(thread: AgUiThread, server: Server) -> None:
    await thread.say([NOTE], runId="mine")
    thread.messages.append({"id": "u9", "role": "user", "content": "something else"})
    assert "This runId was used before" in refusal(await thread.post(runId="mine"), 422)
    elsewhere = AgUiThread(server, "thread-2", messages=thread.messages[:1])
    assert (await elsewhere.post(runId="mine")).status_code == 422
    assert server.executed == ["note(x)"]


async def test_a_stream_goes_on_after_any_frame(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([NOTE], [DELETE], runId="a run, not a UUID")
    assert None not in first.ids
    assert len(set(first.ids)) == len(first.ids)
    for number, last in enumerate(first.ids):
        response = await server.request("GET", f"{thread.path}/a run, not a UUID/events", {"Last-Event-ID": str(last)})
        if number == len(first.ids) - 1:
            assert response.status_code == 204
        else:
            rest = read_stream(response.text, from_start=False)
            assert (rest.events, rest.ids) == (first.events[number + 1 :], first.ids[number + 1 :])


async def test_a_continue_has_a_stream_of_its_own(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([DELETE], runId="r1")
    second = await thread.resume(yes(first.interrupts[0]), runId="r2")
    for name, stream in (("r1", first), ("r2", second)):
        again = read_stream((await server.get(f"{thread.path}/{name}/events")).text)
        assert again.events == stream.events
    whole = read_stream((await server.get(f"{thread.path}/{first.events[0].metadata['unpause']['runId']}/events")).text)
    assert whole.types == first.types + second.types


async def test_the_end_of_a_segment_is_not_the_end_of_a_run_that_was_continued(
    thread: AgUiThread, server: Server
) -> None:
    first = await thread.say([DELETE], runId="r1")
    names = ("r1", first.events[0].metadata["unpause"]["runId"])
    headers = {"Last-Event-ID": str(first.ids[-1])}

    async def follow(name: str) -> httpx.Response:
        return await server.request("GET", f"{thread.path}/{name}/events", headers)

    assert [(await follow(name)).status_code for name in names] == [204, 204]
    second = await thread.resume(yes(first.interrupts[0]))
    assert (await follow("r1")).status_code == 204
    assert read_stream((await follow(names[1])).text).types == second.types
    assert (await follow("r9")).status_code == 404


async def test_an_id_of_another_stream_hides_nothing_of_this_one(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([DELETE], runId="r1")
    second = await thread.resume(yes(first.interrupts[0]), runId="r2")
    own = first.events[0].metadata["unpause"]["runId"]

    async def follow(name: str, last: str) -> list[str | None]:
        response = await server.request("GET", f"{thread.path}/{name}/events", {"Last-Event-ID": last})
        return read_stream(response.text, from_start=False).ids if response.status_code == 200 else []

    # The end of the first stream is before the second; an event that has not happened yet is after both.
    assert await follow("r2", str(first.ids[-1])) == second.ids
    assert await follow("r1", str(second.ids[0])) == []
    for name in ("r1", "r2", own):
        assert await follow(name, "9999.1") == await follow(name, "9999.end") == []


async def test_an_id_from_the_future_does_not_hide_how_a_run_goes_on(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        thread = AgUiThread(server)
        first = await thread.say([("hold", {"name": "door"})])
        resuming = asyncio.ensure_future(thread.resume(yes(first.interrupts[0]), runId="r2"))
        await gates.reached("door")
        names = ("r2", first.events[0].metadata["unpause"]["runId"])
        following = [
            asyncio.ensure_future(server.request("GET", f"{thread.path}/{name}/events", {"Last-Event-ID": "9999.end"}))
            for name in names
        ]
        await server.followed_by(3)
        gates.open("door")
        ended = (await resuming).ids[-1]
        for each in following:
            assert read_stream((await each).text, from_start=False).ids[-1] == ended


async def test_a_message_while_a_run_goes_on_is_refused_and_accepted_after_it(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        thread, colleague = AgUiThread(server), AgUiThread(server, numbers=count(100))
        first = await thread.say([("hold", {"name": "door"})])
        resuming = asyncio.ensure_future(thread.resume(yes(first.interrupts[0])))
        await gates.reached("door")
        refused = await colleague.say("hello")
        assert (refused.types, refused.error.code) == (["RUN_ERROR"], "run_in_progress")
        run_id = first.events[0].metadata["unpause"]["runId"]
        assert refused.error.metadata == {"unpause": {"runId": run_id, "status": "RUNNING"}}
        gates.open("door")
        await resuming
        assert "hello" in (await colleague.send()).text


async def test_of_many_messages_at_once_one_begins_a_run_and_none_is_lost_silently(
    thread: AgUiThread, server: Server
) -> None:
    async def say(number: int) -> Stream:
        message = {"id": "u", "role": "user", "content": plan([("delete_file", {"path": f"/{number}"})])}
        return await thread.send(runId=f"r{number}", messages=[message])

    streams = await asyncio.gather(*map(say, range(8)))
    refused = [stream for stream in streams if stream.types[-1] == "RUN_ERROR"]
    assert len(refused) == 7
    assert {stream.error.code for stream in refused} <= {"run_in_progress", "bad_request"}
    assert len((await server.get("/sessions/thread-1/runs")).json()) == 1


async def test_a_token_has_a_limit_of_requests(tmp_path: Path) -> None:
    async with served(tmp_path, rate_limit_ag_ui="2/minute") as server:
        thread = AgUiThread(server)
        headers = {"Authorization": "Bearer one"}
        answers = [await server.request("POST", thread.path, headers, json=thread.input()) for _ in range(3)]
        # The first two have no message.
        assert [answer.status_code for answer in answers] == [400, 400, 429]
        assert answers[-1].headers["Retry-After"]
        assert [answer.headers["RateLimit"].partition(";t=")[0] for answer in answers] == [
            '"ag_ui";r=1',
            '"ag_ui";r=0',
            '"ag_ui";r=0',
        ]
        following = await server.request("GET", f"{thread.path}/run-1/events", headers)
        assert following.status_code == 429


async def test_a_stream_has_the_header_fields_of_the_limit(tmp_path: Path) -> None:
    async with served(tmp_path, rate_limit_ag_ui="2/minute") as server:
        thread = AgUiThread(server)
        sent = thread.input(messages=[{"id": "u", "role": "user", "content": "hello"}])
        answer = await server.request("POST", thread.path, {"Authorization": "Bearer one"}, json=sent)
        assert answer.headers["RateLimit-Policy"] == '"ag_ui";q=2;w=60'
        assert answer.headers["RateLimit"].startswith('"ag_ui";r=1;t=')


async def test_a_run_id_is_found_again_whatever_it_has_of_slashes(thread: AgUiThread, server: Server) -> None:
    first = await thread.say("hello", runId="a/b")
    for name in ("a/b", "a%2Fb"):
        assert read_stream((await server.get(f"{thread.path}/{name}/events")).text).ids == first.ids


async def test_an_unknown_run_is_not_found_and_an_unknown_frame_refused(thread: AgUiThread, server: Server) -> None:
    await thread.say("hello", runId="r1")
    assert refusal(await server.get(f"{thread.path}/r9/events"), 404) == "Run not found"
    assert (await server.get("/agents/other/ag-ui/r1/events")).status_code == 404
    answer = await server.request("GET", f"{thread.path}/r1/events", {"Last-Event-ID": "seven"})
    assert answer.status_code == 400


INVALID: list[tuple[dict[str, object], int]] = [
    ({"threadId": ""}, 400),
    ({"threadId": "x" * 256}, 400),
    ({"threadId": "a\0"}, 400),
    ({"threadId": 7}, 422),
    ({"runId": " "}, 400),
    ({"runId": "x" * 256}, 400),
    ({"messages": None}, 422),
    ({"messages": [{"role": "user"}]}, 422),
    ({"messages": [{"role": "wizard", "id": "x", "content": "y"}]}, 422),
    ({"state": [1]}, 400),
    ({"tools": [{}]}, 422),
    ({"resume": [{"interruptId": "x", "status": "maybe"}]}, 422),
    ({"resume": [{"interruptId": "x", "status": "cancelled"}] * 300}, 400),
]


async def test_invalid_input_is_refused_before_a_stream_begins(thread: AgUiThread) -> None:
    thread.messages.append({"id": "u", "role": "user", "content": "hello"})
    for changes, status in INVALID:
        assert "detail" in body_of(await thread.post(**changes), status), changes


async def test_what_is_no_json_is_refused(server: Server) -> None:
    for kind, content in (("application/json", "{"), ("text/plain", "{}"), ("application/json", "[]")):
        answer = await server.request("POST", "/agents/toolbox/ag-ui", {"Content-Type": kind}, content=content)
        assert "detail" in body_of(answer, 422)


async def test_unknown_members_are_ignored_and_protobuf_is_answered_with_events(
    thread: AgUiThread, server: Server
) -> None:
    body = thread.input(messages=[{"id": "u", "role": "user", "content": "hello", "mood": "good"}], newer=True)
    headers = {"Accept": "application/vnd.ag-ui.event+proto"}
    response = await server.request("POST", thread.path, headers, json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert read_stream(response.text).outcome == "success"


async def test_an_unknown_agent_is_not_found(server: Server) -> None:
    thread = AgUiThread(server, agent_id="nobody")
    thread.messages.append({"id": "u", "role": "user", "content": "hello"})
    assert refusal(await thread.post(), 404) == "Agent not found"
