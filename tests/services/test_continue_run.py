"""What a continue does to a paused run: answers kept, words passed on, the run moved once all is answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from tests.support.databases import NOW, Place
from tests.support.gates import Gates, working_agent
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import ADA, answer, finish, follow, look, open_requirements, say, segments, start_and_follow
from tests.support.serving import running
from tests.support.statements import statements
from unpause.domain.events import EventSelection, EventType
from unpause.domain.forms import InputField
from unpause.domain.principal import Principal
from unpause.domain.requirements import Decision, ToolAnswer
from unpause.domain.runs import CallStatus, Image, Outcome, RunRef, RunStatus, RunView
from unpause.services.commands import ContinueRun
from unpause.store.tables import webhook_targets

_TO = InputField("to", "str", "Who gets it")


def outcome(view: RunView) -> dict[str, Any]:
    """Return what the asking driver saw when it was continued."""
    found: dict[str, Any] = json.loads(view.run.content or "null")
    return found


async def test_all_kinds_answered_at_once_run_as_answered(tmp_path: Path) -> None:
    driver = PausingDriver(
        (
            need("yes"),
            need("no"),
            need("edit", editable=("of",)),
            need("fill", "user_input", fields=(_TO,)),
            need("bring", "external_execution"),
        )
    )
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        continued = await answer(
            application,
            view.run,
            ToolAnswer("yes", "tool-yes", {"of": "yes"}, confirmed=True),
            ToolAnswer("no", confirmed=False, note="too dangerous"),
            ToolAnswer("edit", tool_args={"of": "something else"}, confirmed=True),
            ToolAnswer("fill", values={"to": "grace"}),
            ToolAnswer("bring", result="brought"),
        )
        ended = await finish(application, view.run, continued)
    assert continued.moved
    assert ended.run.status is RunStatus.COMPLETED
    assert driver.executed == [
        ("tool-yes", {"of": "yes"}),
        ("tool-edit", {"of": "something else"}),
        ("tool-fill", {"of": "fill", "to": "grace"}),
    ]
    assert outcome(ended)["results"] == {
        "yes": "ran",
        "no": "too dangerous",
        "edit": "ran",
        "fill": "ran",
        "bring": "brought",
    }
    decisions = {each.tool_call_id: each.answer for each in ended.requirements}
    assert {name: sent.decision for name, sent in decisions.items() if sent} == {
        "yes": Decision.CONFIRMED,
        "no": Decision.REJECTED,
        "edit": Decision.CONFIRMED,
        "fill": Decision.ANSWERED,
        "bring": Decision.ANSWERED,
    }
    assert {(sent.by, sent.via) for sent in decisions.values() if sent} == {("ada", "agno")}
    assert ended.run.continuation is not None
    assert ended.run.continuation.decision == "mixed"


async def test_a_rejection_without_a_note_gets_the_usual_words(tmp_path: Path) -> None:
    driver = PausingDriver((need("no"),))
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        ended = await finish(
            application, view.run, await answer(application, view.run, ToolAnswer("no", confirmed=False))
        )
    assert driver.executed == []
    assert outcome(ended)["results"] == {"no": "Function call was rejected by the user"}
    call = ended.tool_calls[0]
    assert (call.status, call.outcome) == (CallStatus.FINISHED, Outcome.DENIED)


async def test_partial_answers_are_kept_and_then_completed(tmp_path: Path) -> None:
    driver = PausingDriver((need("a"), need("b"), need("c", "external_execution")))
    eve = Principal(1, "eve", "codegen")
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        first = await answer(application, view.run, ToolAnswer("b", confirmed=True))
        assert not first.moved
        events = await follow(application, view.run, first.after)
        assert [event.type for event in events] == [EventType.RUN_PAUSED]
        partly = await look(application, view.run)
        assert partly.run.status is RunStatus.PAUSED
        assert partly.run.pause_id == view.run.pause_id
        assert partly.run.continuation is None
        assert [each.tool_call_id for each in open_requirements(partly)] == ["a", "c"]
        assert driver.executed == []

        second = await answer(application, view.run, ToolAnswer("c", result="brought"), ToolAnswer("b"), by=eve)
        assert not second.moved
        third = await answer(application, view.run, ToolAnswer("a", confirmed=False, note="no"), by=eve)
        assert third.moved
        ended = await finish(application, view.run, third)
        kinds = await segments(application, view.run)
    assert outcome(ended)["results"] == {"a": "no", "b": "ran", "c": "brought"}
    assert [each.answer and each.answer.by for each in ended.requirements] == ["eve", "ada", "eve"]
    assert kinds.count(EventType.RUN_PAUSED) == 3
    assert kinds.count(EventType.RUN_CONTINUED) == 1


async def test_each_of_partial_answers_is_announced_to_webhooks_once(tmp_path: Path) -> None:
    target = {"organization_id": 1, "url": "https://example.invalid", "enabled": True, "created_at": NOW}
    async with running(tmp_path, drivers=[PausingDriver((need("a"), need("b"), need("c")))]) as application:
        await application.database.write(lambda connection: connection.execute(insert(webhook_targets).values(target)))
        view = await start_and_follow(application)
        for call in ("a", "b", "c"):
            accepted = await answer(application, view.run, ToolAnswer(call, confirmed=True))
        await finish(application, view.run, accepted)
    messages = [json.loads(row["payload"]) for row in Place.in_folder(tmp_path).dump()["webhook_deliveries"]]
    decided = [message["data"] for message in messages if message["type"] == "agent_run.decided"]
    assert sorted(data["requirements"][0]["tool_name"] for data in decided) == ["tool-a", "tool-b", "tool-c"]


async def test_partial_answers_survive_a_restart(tmp_path: Path) -> None:
    driver = PausingDriver((need("a"), need("b")))
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        await answer(application, view.run, ToolAnswer("a", confirmed=True))
    async with running(tmp_path, drivers=[driver]) as application:
        continued = await answer(application, view.run, ToolAnswer("b", confirmed=True))
        ended = await finish(application, view.run, continued)
    assert ended.run.status is RunStatus.COMPLETED
    assert [name for name, _ in driver.executed] == ["tool-a", "tool-b"]


async def test_a_prompt_answers_questions_and_declines_everything_else(tmp_path: Path) -> None:
    driver = PausingDriver(
        (
            need("ask", "external_execution", question=True),
            need("confirm"),
            need("fill", "user_input", fields=(_TO,)),
            need("bring", "external_execution"),
        )
    )
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        continued = await say(application, view.run, "use the blue one", by=Principal(1, "grace", "codegen"))
        ended = await finish(application, view.run, continued)
    assert driver.executed == []
    assert outcome(ended) == {
        "results": dict.fromkeys(("ask", "confirm", "fill", "bring"), "use the blue one"),
        "said": ["use the blue one"],
    }
    outcomes = {call.tool_call_id: call.outcome for call in ended.tool_calls}
    assert outcomes == {
        "ask": Outcome.SUCCESS,
        "confirm": Outcome.DENIED,
        "fill": Outcome.DENIED,
        "bring": Outcome.DENIED,
    }
    assert ended.run.continuation is not None
    assert (ended.run.continuation.by, ended.run.continuation.via) == ("grace", "codegen")


async def test_a_run_that_waits_for_nothing_just_gets_the_new_message(tmp_path: Path) -> None:
    driver = PausingDriver(())
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        assert view.run.status is RunStatus.PAUSED
        ended = await finish(application, view.run, await say(application, view.run, "go on"))
    assert outcome(ended) == {"results": {}, "said": ["go on"]}
    assert ended.run.continuation is not None
    assert ended.run.continuation.decision == "continued"


async def test_the_model_reads_the_note_and_the_prompt_of_the_user(tmp_path: Path) -> None:
    executed: list[str] = []
    agent = working_agent(executed, Gates())
    async with running(tmp_path, [agent]) as application:
        view = await start_and_follow(application, "charge look")
        assert executed == ["look"]
        picture = Image("image/png", "aGVsbG8=")
        ended = await finish(application, view.run, await say(application, view.run, "ask finance first", picture))
    assert executed == ["look"]
    assert ended.run.status is RunStatus.COMPLETED
    sent = (ended.run.content or "").split("; ")
    assert sent[:2] == ["ask finance first", "look is done"]
    assert "ask finance first" in sent[2]
    assert "image/png" in sent[2]


async def test_what_was_said_is_given_to_the_model_once(tmp_path: Path) -> None:
    driver = PausingDriver((need("a"),))
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application, "the first words")
        ended = await finish(application, view.run, await say(application, view.run, "the second words"))
    assert outcome(ended)["said"] == ["the second words"]


async def test_from_the_accepted_continue_on_every_reader_sees_the_run_moving(tmp_path: Path) -> None:
    gates = Gates("charge")
    async with running(tmp_path, [working_agent([], gates)]) as application:
        view = await start_and_follow(application, "charge")
        continued = await answer(application, view.run, ToolAnswer("call-0", confirmed=True))
        seen = await look(application, view.run)
        assert seen.run.status in {RunStatus.PENDING, RunStatus.RUNNING}
        assert seen.run.content is None
        await gates.reached("charge")
        assert (await look(application, view.run)).run.status is RunStatus.RUNNING
        gates.open("charge")
        ended = await finish(application, view.run, continued)
    assert ended.run.content == "charge is done"


async def test_a_continue_reads_the_run_its_requirements_and_its_calls_once(tmp_path: Path) -> None:
    driver = PausingDriver((need("yes"), need("no")))
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        with statements() as seen:
            await answer(application, view.run, ToolAnswer("yes", confirmed=True))
    reads = [statement for statement in seen if statement.startswith("SELECT")]
    assert {
        table: sum(f"FROM {table}" in read or f"JOIN {table}" in read for read in reads)
        for table in ("runs", "requirements", "tool_calls")
    } == {
        "runs": 1,
        "requirements": 1,
        "tool_calls": 1,
    }


async def test_the_log_repeats_no_prompt_but_keeps_a_note_of_the_same_words(tmp_path: Path) -> None:
    driver = PausingDriver((need("one"), need("two")))
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        command = ContinueRun((ToolAnswer("one", confirmed=False, note="no"),), prompt="no")
        await application.service.continue_run(ADA, RunRef(run_id=view.run.run_id), command)
        log = await application.run_lists.read_log(ADA, view.run.id, EventSelection({EventType.RUN_CONTINUED: None}))
    (continued,) = [event for event in log.events if event.type is EventType.RUN_CONTINUED]
    assert [item.get("note") for item in continued.payload["answers"]] == ["no", None]
