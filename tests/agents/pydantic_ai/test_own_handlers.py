"""An agent's own handler for deferred calls: what it decides counts, but never for people who have to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, RunContext, Tool, ToolApproved, ToolDenied
from pydantic_ai.capabilities import HandleDeferredToolCalls, Hooks
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.pydantic_ai.driving import DrivenServer, driving, open_tools
from tests.support.agents import RUN_SHELL, Call, ScriptedModel, parts_of
from tests.support.toolbox import JsonObject
from unpause.agents.policy import policy


class Files:
    """Tools that keep what they did, and a handler that decides about them as it is told."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.requests: list[list[str]] = []

    def read(self, path: str = "a") -> str:
        """Read."""
        self.did.append(f"read {path}")
        return f"text of {path}"

    def write(self, path: str = "b") -> str:
        """Write."""
        self.did.append(f"write {path}")
        return "written"

    def stage(self, ctx: RunContext[None]) -> str:
        """Want a second word."""
        if not (ctx.tool_call_metadata or {}).get("twice"):
            raise ApprovalRequired(metadata={"twice": True, "reason": "really?"})
        self.did.append("stage")
        return "staged"

    def handle(self, ctx: RunContext[Any], requests: DeferredToolRequests) -> DeferredToolResults | None:
        """Let reading happen, and whatever is already known by id."""
        del ctx
        self.requests.append([call.tool_name for call in (*requests.approvals, *requests.calls)])
        other = ToolApproved(override_args={"path": "c"})
        return DeferredToolResults(
            approvals={"r": True, "w": ToolDenied("not today"), "o": other, "s": True, "p": True},
            calls={"x": "a file"},
            answered_by={"r": "reviewer"},
        )


def _agent(files: Files, *calls: Call, **rules: Any) -> tuple[ScriptedModel, Agent[None, str]]:  # noqa: ANN401
    script = ScriptedModel([*calls], "done")
    tools = [
        Tool(files.read, requires_approval=True),
        Tool(files.write, requires_approval=True),
        Tool(files.stage, requires_approval=True),
        Tool(files.write, name="publish", metadata=policy(**rules)),
    ]
    handler = HandleDeferredToolCalls[None](handler=files.handle)
    toolsets = [ExternalToolset[None]([RUN_SHELL])]
    return script, Agent(script.model, name="agent", tools=tools, toolsets=toolsets, capabilities=[handler])


async def _trail(server: DrivenServer) -> list[tuple[str, str, str]]:
    entries = (await server.get("/audit")).json()["data"]
    return [(entry["via"], entry["actor"], entry["decision"]) for entry in reversed(entries)]


async def test_what_the_handler_decides_counts_and_is_in_the_trail_with_its_origin(tmp_path: Path) -> None:
    files = Files()
    shell = Call("run_shell", {"command": "ls"}, "x")
    script, agent = _agent(files, Call("read", {}, "r"), Call("write", {}, "w"), Call("read", {}, "o"), shell)
    async with driving(tmp_path, agent) as server:
        events = await server.events()
        assert events[-1]["event"] == "RunCompleted"
        started = [event["tool"]["tool_args"] for event in events if event["event"] == "ToolCallStarted"]
        assert sorted(started, key=str) == [{"path": "a"}, {"path": "c"}]
        run = (await server.get(f"/agents/agent/runs/{events[-1]['run_id']}")).json()
        trail = await _trail(server)
    assert sorted(files.did) == ["read a", "read c"]
    assert files.requests == [["read", "write", "read", "run_shell"]]
    results = {
        part.tool_call_id: (part.outcome, part.content) for part in parts_of(script.requests[-1], ToolReturnPart)
    }
    assert results == {
        "r": ("success", "text of a"),
        "w": ("denied", "not today"),
        "o": ("success", "text of c"),
        "x": ("success", "a file"),
    }
    shown = [tool["tool_args"] for tool in run["tools"]]
    assert shown == [{"path": "a"}, {"path": "b"}, {"path": "c"}, {"command": "ls"}]
    assert sorted(trail) == [
        ("agent", "agent", "answered"),
        ("agent", "agent", "confirmed"),
        ("agent", "agent", "rejected"),
        ("agent", "reviewer", "confirmed"),
    ]


@pytest.mark.parametrize(
    "rules",
    [{"approval": "required"}, {"approvers": ["ada"]}, {"quorum": 2}, {"four_eyes": True}, {"user_input": ["path"]}],
)
async def test_the_handler_neither_hears_of_nor_decides_what_asks_for_people(tmp_path: Path, rules: JsonObject) -> None:
    files = Files()
    _, agent = _agent(files, Call("read", {}, "r"), Call("publish", {}, "p"), **rules)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    assert (run["status"], files.did, files.requests) == ("PAUSED", ["read a"], [["read"]])
    waiting = [requirement["tool_execution"]["tool_name"] for requirement in run["requirements"]]
    assert waiting == ["publish"]


async def test_the_rest_pauses_and_what_was_decided_does_not_run_again(tmp_path: Path) -> None:
    files = Files()
    script, agent = _agent(files, Call("read", {}, "r"), Call("write", {}, "other"))
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], files.did) == ("PAUSED", ["read a"])
        assert [tool["tool_name"] for tool in open_tools(run)] == ["write"]
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert (done["status"], files.did, len(files.requests)) == ("COMPLETED", ["read a", "write b"], 1)
    assert len(script.requests) == 2


async def test_a_tool_that_wants_more_than_the_handler_s_word_asks_people(tmp_path: Path) -> None:
    files = Files()
    _, agent = _agent(files, Call("stage", {}, "s"))
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], run["requirements"][0]["message"], len(files.requests)) == ("PAUSED", "really?", 1)
        done = await server.confirm(run)
    assert (done["status"], files.did) == ("COMPLETED", ["stage"])


async def test_a_hook_may_be_the_handler_and_one_that_says_nothing_leaves_it_to_people(tmp_path: Path) -> None:
    files = Files()
    hooks = Hooks[None]()

    @hooks.on.deferred_tool_calls
    async def approve(ctx: RunContext[None], *, requests: DeferredToolRequests) -> DeferredToolResults | None:
        del ctx
        if any(call.tool_name == "write" for call in requests.approvals):
            return None
        return requests.build_results(approve_all=True)

    script = ScriptedModel([Call("read")], [Call("write")], "done")
    tools = [Tool(files.read, requires_approval=True), Tool(files.write, requires_approval=True)]
    agent = Agent(script.model, name="agent", tools=tools, capabilities=[hooks])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], files.did) == ("PAUSED", ["read a"])
        done = await server.confirm(run)
    assert (done["status"], files.did) == ("COMPLETED", ["read a", "write b"])
