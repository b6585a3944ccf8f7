"""Resumes that come twice, late, or answer too little: exactly one decides, and the others are told who."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.ag_ui import AgUiThread, no, read_stream, yes
from tests.support.caller import confirming
from tests.support.gates import Gates
from tests.support.server import Server, served

DELETE = ("delete_file", {"path": "/a"})
SHELL = ("run_shell", {"command": "ls"})
ASK = ("ask", {"question": "Why?"})
EMAIL = ("send_email", {"subject": "Hi"})
VALUES = {"to_address": "bob@x.org", "body": "hello"}


async def test_a_partial_resume_is_refused_with_what_is_missing_and_changes_nothing(
    thread: AgUiThread, server: Server
) -> None:
    delete, email = (await thread.say([DELETE, EMAIL])).interrupts
    before = await server.read(await run_of(thread, server))
    stream = await thread.send(resume=[yes(delete)])
    assert (stream.types, stream.error.code) == (["RUN_ERROR"], "bad_request")
    assert email.id in stream.error.message
    assert "send_email" in stream.error.message
    assert stream.error.metadata == {"unpause": {"missing": [email.id], "missingToolCallIds": [email.tool_call_id]}}
    assert await server.read(await run_of(thread, server)) == before
    assert (await thread.resume(yes(delete), yes(email, values=VALUES))).outcome == "success"


UNFIT: list[tuple[object, str]] = [
    ({}, "needs `values`"),
    ({"values": {"to_address": "x"}}, "missing value for body"),
    ({"values": {**VALUES, "cc": "y"}}, "no such input field: cc"),
    ({"values": VALUES, "result": "done"}, "takes no result"),
    ({"approved": "yes"}, "payload.approved"),
    ({"values": [1]}, "payload.values"),
    ({"values": VALUES, "edited_args": {"subject": "Bye"}}, "payload.edited_args"),
    ([1], "payload"),
    (None, "needs `values`"),
]


async def test_a_payload_that_does_not_fit_is_a_run_error_and_changes_nothing(
    thread: AgUiThread, server: Server
) -> None:
    (interrupt,) = (await thread.say([EMAIL])).interrupts
    for payload, told in UNFIT:
        entry = {"interruptId": interrupt.id, "status": "resolved", "payload": payload}
        stream = await thread.send(resume=[entry])
        assert (stream.types, stream.error.code) == (["RUN_ERROR"], "bad_request")
        assert told in stream.error.message
    assert server.executed == []
    assert (await thread.resume(no(interrupt))).outcome == "success"


UNFIT_FOR_OTHERS: list[tuple[Any, dict[str, object], str]] = [
    (DELETE, {"approved": True, "values": {"path": "/b"}}, "it takes no values"),
    (DELETE, {"approved": True, "editedArgs": {"path": "/b"}}, "not the one that was shown"),
    (SHELL, {"result": "a", "editedArgs": {"command": "rm"}}, "takes only a result"),
    (SHELL, {"approved": True}, "needs `result`"),
    (ASK, {"result": {"a": 1}}, "the answer in words"),
    (ASK, {"result": None}, "the answer in words"),
]


async def test_what_a_person_changed_is_never_left_out_silently(thread: AgUiThread, server: Server) -> None:
    for call, payload, told in UNFIT_FOR_OTHERS:
        (interrupt,) = (await thread.say([call])).interrupts
        async with server.nothing_changes():
            refused = await thread.send(resume=[yes(interrupt, **payload)])
        assert told in refused.error.message
        await thread.resume(no(interrupt))


async def test_nothing_is_a_result_too(thread: AgUiThread) -> None:
    (interrupt,) = (await thread.say([SHELL])).interrupts
    assert (await thread.resume(yes(interrupt, result=None))).text == "Done. run_shell: null."


async def test_a_resume_that_is_sent_again_streams_what_it_did_and_does_nothing_more(
    thread: AgUiThread, server: Server
) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    first = await thread.send(resume=[yes(interrupt)], runId="r2")
    same = await thread.send(resume=[yes(interrupt)], runId="r2")
    assert (same.ids, same.types) == (first.ids, first.types)
    other_name = await thread.send(resume=[yes(interrupt)], runId="r3")
    assert (other_name.ids, other_name.events[0].run_id) == (first.ids, "r3")
    assert server.executed == ["delete_file(/a)"]


async def test_a_late_resume_is_a_run_error_that_says_who_was_first(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    run = await server.read(await run_of(thread, server))
    await server.continued(run, confirming(run), user_id="bob")
    stream = await thread.send(resume=[no(interrupt, "never")])
    assert stream.types == ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"]
    assert stream.error.code == "already_decided"
    assert "was already approved by bob through agno" in stream.error.message
    assert stream.error.metadata is not None
    assert stream.error.metadata["unpause"]["decision"]["by"] == "bob"
    # The client that was late has nothing open any more, and can go on.
    assert stream.of(stream.events[1].type)[0].outcome.type == "cancelled"


async def test_a_resume_with_other_arguments_is_no_repetition(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([("move_file", {"source": "a", "target": "b"})])).interrupts
    await thread.resume(yes(interrupt, approved=True, editedArgs={"target": "c"}))
    for other in (yes(interrupt), yes(interrupt, approved=True, editedArgs={"target": "d"})):
        assert (await thread.send(resume=[other])).error.code == "already_decided"
    again = await thread.send(resume=[yes(interrupt, approved=True, editedArgs={"target": "c"})])
    assert again.types[-1] == "RUN_FINISHED"
    assert server.executed == ["move_file(a, c)"]


async def test_a_late_client_of_before_1_0_gets_an_outcome_that_it_knows(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    run = await server.read(await run_of(thread, server))
    await server.continued(run, confirming(run))
    stream = await thread.send(resume=[no(interrupt)], protocolVersion=None)
    assert (stream.of(stream.events[1].type)[0].outcome.type, stream.error.code) == ("success", "already_decided")


async def test_an_answer_to_an_earlier_pause_never_decides_the_next(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([DELETE], [("delete_file", {"path": "/b"})])
    await thread.send(resume=[yes(first.interrupts[0])])
    late = await thread.send(resume=[no(first.interrupts[0], "no")])
    assert late.error.code == "already_decided"
    assert late.interrupts[0].metadata["unpause"]["toolArgs"] == {"path": "/b"}, "what is open now comes with the error"
    assert server.executed == ["delete_file(/a)"]
    again = await thread.send(resume=[yes(first.interrupts[0])])
    assert again.interrupts[0].id == late.interrupts[0].id


async def test_of_many_different_resumes_at_once_one_decides(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    run = await server.read(await run_of(thread, server))
    streams, others = await asyncio.gather(
        asyncio.gather(*(thread.send(resume=[no(interrupt, f"{number}")]) for number in range(4))),
        asyncio.gather(server.post_continue(run, confirming(run), user_id="bob"), server.resume(run, "stop it")),
    )
    won = [stream for stream in streams if stream.types[-1] == "RUN_FINISHED"]
    assert len(won) + sum(answer.is_success for answer in others) == 1
    for stream in streams:
        if stream not in won:
            assert stream.error.code == "already_decided"
            assert " by " in stream.error.message
    assert len(server.executed) <= 1


async def test_a_new_message_is_refused_while_interrupts_are_open(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    stream = await thread.say("never mind")
    assert stream.types == ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"]
    assert [item.id for item in stream.interrupts] == [interrupt.id]
    assert interrupt.id in stream.error.message
    assert len((await server.get("/sessions/thread-1/runs")).json()) == 1


async def test_an_interrupt_that_expires_is_answered_too_late(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([("soon_rejected", {"path": "/a"})])).interrupts
    assert interrupt.expires_at is not None
    assert interrupt.expires_at.endswith("Z")
    server.clock.move(61)
    stream = await thread.send(resume=[yes(interrupt)])
    assert stream.types[-1] == "RUN_ERROR"
    assert "rejected by nobody in time" in stream.error.message
    assert server.executed == []


async def test_a_resume_of_unknown_interrupts_is_a_run_error(thread: AgUiThread) -> None:
    entry = {"interruptId": "made-up", "status": "resolved", "payload": {"approved": True}}
    empty = await thread.send(resume=[entry])
    assert (empty.types, empty.error.code) == (["RUN_ERROR"], "unknown_interrupt")
    (interrupt,) = (await thread.say([DELETE])).interrupts
    alone = await thread.send(resume=[entry])
    assert interrupt.id in alone.error.message
    # The specification has a run go on without an answer that it never asked for.
    assert (await thread.resume(yes(interrupt), entry)).outcome == "success"


async def test_a_run_that_was_paused_on_request_has_one_interrupt(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        thread = AgUiThread(server)
        (hold,) = (await thread.say([("hold", {"name": "door"})], [DELETE])).interrupts
        resuming = asyncio.ensure_future(thread.resume(yes(hold)))
        await gates.reached("door")
        await server.pause(await run_of(thread, server))
        gates.open("door")
        (interrupt,) = (await resuming).interrupts
        assert (interrupt.reason, interrupt.tool_call_id) == ("unpause:paused", None)
        # A client that repeats its messages up to the pause: the last one is the prompt that the run has.
        prompt = thread.messages[:1]
        first = await thread.send(messages=prompt, resume=[yes(interrupt)])
        assert first.interrupts[0].reason == "tool_call"
        again = await thread.send(messages=prompt, resume=[yes(interrupt)])
        assert again.ids == first.ids
        late = await thread.send(messages=prompt, resume=[no(interrupt)])
        assert (late.error.code, late.interrupts) == ("already_decided", first.interrupts)
        assert len((await server.get("/sessions/thread-1/runs")).json()) == 1


async def test_of_many_answers_to_a_pause_on_request_one_decides_and_none_begins_another_run(tmp_path: Path) -> None:
    async with paused_on_request(tmp_path) as (server, thread, interrupt):
        entries = [yes(interrupt), no(interrupt)] * 2
        streams = await asyncio.gather(*(thread.send(messages=thread.messages[:1], resume=[one]) for one in entries))
        ends = [stream.types[-1] for stream in streams]
        # Those that agree with the first one stream what it did.
        assert sorted(ends) == ["RUN_ERROR", "RUN_ERROR", "RUN_FINISHED", "RUN_FINISHED"]
        assert ends[:2] == ends[2:]
        assert len((await server.get("/sessions/thread-1/runs")).json()) == 1


async def test_an_answer_to_a_pause_on_request_that_somebody_else_continued_is_late(tmp_path: Path) -> None:
    async with paused_on_request(tmp_path) as (server, thread, interrupt):
        await server.resume(await server.read(await run_of(thread, server)), "Go on.")
        late = await thread.send(messages=thread.messages[:1], resume=[yes(interrupt)])
        assert late.error.code == "already_decided"


async def test_a_pause_on_request_that_is_cancelled_twice_is_cancelled(tmp_path: Path) -> None:
    async with paused_on_request(tmp_path) as (server, thread, interrupt):
        request = thread.input(messages=thread.messages[:1], resume=[no(interrupt)])
        first, again = [read_stream((await server.post(thread.path, request)).text) for _ in range(2)]
        assert (first.outcome, again.ids) == ("cancelled", first.ids)
        late = await thread.send(messages=thread.messages[:1], resume=[yes(interrupt)])
        assert late.error.code == "already_decided"
        assert len((await server.get("/sessions/thread-1/runs")).json()) == 1


async def test_an_answer_to_a_pause_on_request_of_an_older_run_begins_no_run_with_its_message(tmp_path: Path) -> None:
    async with paused_on_request(tmp_path) as (server, thread, interrupt):
        await server.resume(await server.read(await run_of(thread, server)), "Go on.")
        (open_one,) = (await thread.send(messages=[])).interrupts
        await thread.resume(yes(open_one))
        await thread.say("another run")
        message = {"id": "late", "role": "user", "content": "delete everything"}
        for entry in (yes(interrupt), no(interrupt)):
            late = await thread.send(messages=[*thread.messages, message], resume=[entry])
            assert late.error.code == "already_decided"
        assert len((await server.get("/sessions/thread-1/runs")).json()) == 2


@asynccontextmanager
async def paused_on_request(folder: Path) -> AsyncIterator[tuple[Server, AgUiThread, Any]]:
    """Serve a run that was paused on request; yield its interrupt, too."""
    gates = Gates("door")
    async with served(folder, gates=gates) as server:
        thread = AgUiThread(server)
        (hold,) = (await thread.say([("hold", {"name": "door"})], [DELETE])).interrupts
        resuming = asyncio.ensure_future(thread.send(resume=[yes(hold)]))
        await gates.reached("door")
        await server.pause(await run_of(thread, server))
        gates.open("door")
        (interrupt,) = (await resuming).interrupts
        yield server, thread, interrupt


async def run_of(thread: AgUiThread, server: Server) -> dict[str, str]:
    """Return the newest run of the thread."""
    runs = (await server.get(f"/sessions/{thread.thread_id}/runs")).json()
    return {"run_id": runs[-1]["run_id"]}


async def test_two_answers_to_one_interrupt_have_to_be_the_same(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    for entries in ([no(interrupt), yes(interrupt)], [yes(interrupt), no(interrupt)]):
        async with server.nothing_changes():
            refused = await thread.send(resume=entries)
        assert "answered twice, and not the same way" in refused.error.message
    assert (await thread.send(resume=[yes(interrupt), yes(interrupt)])).outcome == "success"
    assert len(server.executed) == 1


async def test_an_answer_to_an_earlier_run_beside_a_present_one_hides_nothing(
    thread: AgUiThread, server: Server
) -> None:
    (old,) = (await thread.say([DELETE])).interrupts
    await thread.resume(yes(old))
    (now,) = (await thread.say([DELETE])).interrupts
    assert (await thread.resume(yes(old), yes(now))).outcome == "success"
    assert len(server.executed) == 2


async def test_an_answer_to_an_earlier_pause_that_says_otherwise_is_refused_with_all_of_them(
    thread: AgUiThread, server: Server
) -> None:
    (old,) = (await thread.say([DELETE], [DELETE])).interrupts
    (now,) = (await thread.resume(yes(old))).interrupts
    async with server.nothing_changes():
        assert (await thread.send(resume=[no(old), yes(now)])).error.code == "already_decided"
    assert (await thread.resume(yes(old), yes(now))).outcome == "success"
