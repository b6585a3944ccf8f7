"""What an agent's own handlers wait for waits as rows: no worker is held, and a restart loses nothing."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, CallDeferred, RunContext, Tool
from pydantic_ai.capabilities import HandleDeferredToolCalls, RequestInput
from pydantic_ai.external_events import wait_for_external_event
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.pydantic_ai.driving import driving, open_tools, said_by_tools, yes
from tests.support.agents import RUN_SHELL, Call, ScriptedModel

CLOSE, RUN = Call("close", {"ticket": "7"}, "c1"), Call("run_shell", {"command": "ls"}, "c3")


class Desk:
    """Tools of every kind that waits, and what happened."""

    def __init__(self, *capabilities: Any, turn: Any, tools: Any = ()) -> None:  # noqa: ANN401
        self.closed: list[str] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.script = ScriptedModel(turn)
        self.agent = Agent(
            self.script.model,
            name="agent",
            tools=[Tool(self.close, requires_approval=True), self.inquire, *tools],
            toolsets=[ExternalToolset([RUN_SHELL], id="shell")],
            capabilities=capabilities or [RequestInput(self.ask)],
        )

    def close(self, ticket: str) -> str:
        """Close a ticket."""
        self.closed.append(ticket)
        return f"closed {ticket}"

    @staticmethod
    def inquire(question: str) -> str:
        """Ask the user."""
        raise CallDeferred({"question": question}, kind="question")

    async def ask(self, ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> None:
        """Post it somewhere."""
        del ctx
        self.asked.append((token, [call.tool_call_id for call in (*requests.approvals, *requests.calls)]))


async def test_what_request_input_waits_for_outlives_a_restart_and_is_answered_through_the_apis(tmp_path: Path) -> None:
    desk = Desk(turn=[CLOSE, Call("inquire", {"question": "Why?"}, "c2"), RUN])
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        assert desk.asked == [(f"{run['run_id']}:deferred_tool_calls:c1", ["c1", "c2", "c3"])]
        inbox = (await server.client.get("/inbox")).json()["data"]
        assert sorted(item["kind"] for item in inbox) == ["confirmation", "external_execution", "question"]
    async with driving(tmp_path, desk.agent) as server:
        approval, question, shell = run["tools"]
        answers = [yes(approval), {**question, "result": "because"}, {**shell, "result": "a file"}]
        done = await server.answer_with(run, *answers)
    assert (done["status"], desk.closed, len(desk.asked)) == ("COMPLETED", ["7"], 1)
    assert said_by_tools(done) == [("close", "closed 7"), ("inquire", "because"), ("run_shell", "a file")]


async def test_an_answer_that_the_handler_gives_at_once_counts(tmp_path: Path) -> None:
    def ask(ctx: RunContext[object], requests: DeferredToolRequests, token: str) -> DeferredToolResults:
        del ctx, token
        return requests.build_results(approve_all=True, answered_by={"c1": "the bot"})

    desk = Desk(RequestInput(ask), turn=[CLOSE])
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        (entry,) = (await server.client.get("/audit")).json()["data"]
    assert (run["status"], desk.closed) == ("COMPLETED", ["7"])
    assert (entry["via"], entry["actor"], entry["decision"]) == ("agent", "the bot", "confirmed")


async def test_the_timeout_is_that_of_the_requirement(tmp_path: Path) -> None:
    desk = Desk(turn=[CLOSE])
    desk.agent = Desk(RequestInput(desk.ask, timeout=timedelta(seconds=60)), turn=[CLOSE]).agent
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        assert run["requirements"][0]["expires_at"] is not None
        server.clock.move(61)
        late = await server.post_continue(run, [yes(tool) for tool in open_tools(run)])
        assert late.status_code == 409
        done = await server.settled(run)
    assert (done["status"], desk.closed) == ("COMPLETED", [])


async def test_what_an_earlier_handler_decided_is_kept(tmp_path: Path) -> None:
    def approve(ctx: RunContext[object], requests: DeferredToolRequests) -> DeferredToolResults:
        del ctx
        return requests.build_results(approvals={"c1": True})

    desk = Desk(turn=[CLOSE, RUN])
    other = Desk(HandleDeferredToolCalls(handler=approve), RequestInput(desk.ask), turn=[CLOSE, RUN])
    async with driving(tmp_path, other.agent) as server:
        run = await server.run()
    assert (run["status"], other.closed, [calls for _, calls in desk.asked]) == ("PAUSED", ["7"], [["c3"]])


async def test_a_handler_of_the_author_s_that_waits_leaves_the_calls_to_people(tmp_path: Path) -> None:
    async def handle(ctx: RunContext[object], requests: DeferredToolRequests) -> DeferredToolResults:
        del ctx
        payload = await wait_for_external_event("approve", ask=lambda _: None)
        return requests.build_results(approvals={"c1": bool(payload)})

    desk = Desk(HandleDeferredToolCalls(handler=handle), turn=[CLOSE])
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        assert run["status"] == "PAUSED"
        done = await server.confirm(run)
    assert (done["status"], desk.closed) == ("COMPLETED", ["7"])


async def test_an_ask_that_takes_longer_than_the_timeout_denies_the_calls(tmp_path: Path) -> None:
    async def ask(*_: object) -> None:
        await asyncio.sleep(60)

    desk = Desk(RequestInput(ask, timeout=timedelta(milliseconds=20)), turn=[CLOSE])
    async with driving(tmp_path, desk.agent) as server:
        done = await server.run()
    assert (done["status"], desk.closed) == ("COMPLETED", [])
    assert "No decision on this tool call arrived" in said_by_tools(done)[0][1]


async def test_a_tool_cannot_wait_in_its_process_and_says_what_to_do(tmp_path: Path) -> None:
    asked: list[str] = []

    async def wait() -> str:
        return str(await wait_for_external_event("paid", ask=asked.append))

    desk = Desk(turn=[Call("wait", {}, "w")], tools=[wait])
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
    assert (run["status"], asked) == ("COMPLETED", [])
    assert "raise CallDeferred" in said_by_tools(run)[0][1]
