"""Why a tool waits: its metadata reaches people before they decide, and the tool itself when it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_ai import Agent, RunContext
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred

from tests.agents.pydantic_ai.driving import driving, open_tools
from tests.support.agents import Call, ScriptedModel
from unpause.agents.policy import policy
from unpause.agents.pydantic_ai.deferred import MAX_METADATA_BYTES


async def test_a_tool_that_asks_in_stages_finds_its_metadata_again_and_ends(tmp_path: Path) -> None:
    steps: list[int] = []
    agent: Agent[None, str] = Agent(ScriptedModel([Call("deploy")], "done").model, name="agent")

    @agent.tool
    def deploy(ctx: RunContext[None]) -> str:
        """Deploy with two people's words."""
        step = (ctx.tool_call_metadata or {}).get("step", 0)
        steps.append(step)
        if step < 2:
            raise ApprovalRequired(metadata={"step": step + 1, "reason": f"stage {step + 1} of 2"})
        return "deployed"

    async with driving(tmp_path, agent) as server:
        events = await server.events()
        (shown,) = events[-1]["requirements"]
        assert (shown["metadata"], shown["message"]) == ({"step": 1, "reason": "stage 1 of 2"}, "stage 1 of 2")
        run = await server.confirm(events[-1])
        assert (run["status"], run["requirements"][-1]["metadata"]["step"]) == ("PAUSED", 2)
        path = f"/v1/organizations/1/agent/run/{1}"
        reported = (await server.get(path)).json()["result"]
        assert reported == "Waiting for a confirmation of deploy(). Reason: stage 2 of 2"
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert (done["status"], steps) == ("COMPLETED", [0, 1, 2])


async def test_a_validator_s_reason_is_shown_with_the_approval_and_given_back(tmp_path: Path) -> None:
    provided: list[object] = []

    def check(ctx: RunContext[None], path: str) -> None:
        del path
        provided.append(ctx.tool_call_metadata)
        if not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "system file"})

    agent: Agent[None, str] = Agent(ScriptedModel([Call("write", {"path": "/etc/x"})], "done").model, name="agent")

    @agent.tool(args_validator=check, metadata=policy(approval="required"))
    def write(ctx: RunContext[None], path: str) -> str:
        """Write a file."""
        provided.append(ctx.tool_call_metadata)
        return path

    async with driving(tmp_path, agent) as server:
        run = await server.run()
        (approval,) = (await server.get("/approvals")).json()["data"]
        assert approval["requirements"][0]["metadata"] == {"why": "system file"}
        await server.post(f"/approvals/{approval['id']}/resolve", {"status": "approved"})
        done = await server.confirm(run)
    assert (done["status"], provided) == ("COMPLETED", [None, {"why": "system file"}, {"why": "system file"}])


async def test_what_is_run_elsewhere_says_why(tmp_path: Path) -> None:
    agent: Agent[None, str] = Agent(ScriptedModel([Call("job")], "done").model, name="agent")

    @agent.tool_plain
    def job() -> str:
        """Queue a job."""
        raise CallDeferred(metadata={"job": 17})

    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert run["requirements"][0]["metadata"] == {"job": 17}
        done = await server.answer_with(run, {**run["tools"][0], "result": "built"})
    assert done["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [({"log": "x" * MAX_METADATA_BYTES}, "more than 262144"), ({"what": object()}, "is not JSON")],
    ids=["long", "no JSON"],
)
@pytest.mark.parametrize("where", ["tool", "validator"])
async def test_metadata_that_cannot_be_kept_fails_the_call_in_so_many_words(
    tmp_path: Path, metadata: dict[str, object], words: str, where: str
) -> None:
    def check(ctx: RunContext[None]) -> None:
        del ctx
        if where == "validator":
            raise ApprovalRequired(metadata=metadata)

    agent: Agent[None, str] = Agent(ScriptedModel([Call("act")], "done").model, name="agent")

    @agent.tool_plain(args_validator=check)
    def act() -> str:
        """Want what cannot be had."""
        raise ApprovalRequired(metadata=metadata)

    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], open_tools(done)) == ("COMPLETED", [])
    assert words in done["tools"][0]["result"]
